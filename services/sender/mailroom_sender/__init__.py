"""The only way out: composes, sends, files in Sent, and says what became of it."""

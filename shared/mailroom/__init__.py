"""Mailroom: what two or more of its services need. Functions and data, and no service in here."""

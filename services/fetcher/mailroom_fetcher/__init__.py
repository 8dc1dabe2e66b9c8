"""The fetcher: brings every mail of every account in, once."""

"""A service of somebody else's: counts who writes how often to the central mailboxes."""

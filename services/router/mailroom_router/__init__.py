"""The router: reads each mail once, knows it again, decides its mailbox and says why."""

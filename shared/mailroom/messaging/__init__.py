"""Events between services: topology, outbox and relay, consume once, failures sorted, parked.

Invariant: one concern a file. A service gives a queue and a handler, and nothing of this machinery
stands in it.
"""

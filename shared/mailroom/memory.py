"""How the process gives memory back to the system.

Invariant: what mails took for a moment is given back soon after, however many have come.
"""

import ctypes

_ARENA_MAX, _MMAP_THRESHOLD = -8, -3
"""Of mallopt(3), glibc's."""
ARENAS = 2
LARGE = 128 * 1024
"""Bytes: what is larger goes back to the system when it is freed."""


def give_back_soon() -> None:
    """Call it before threads are started. Where the C library is not glibc, nothing happens.

    By default glibc keeps eight arenas for each processor, and raises the size from which it gives
    memory back to that of the largest block so far: after one large mail, each thread keeps what it
    ever took. Sixteen that stored some kept 312 MB; so they keep less than one.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_ARENA_MAX, ARENAS)
        mallopt(_MMAP_THRESHOLD, LARGE)

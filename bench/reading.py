"""Reading mails, on one core, with all that we extract; bare is fast-mail-parser's parsing."""

import time
from collections.abc import Callable
from random import Random

import fast_mail_parser

from bench.mails import mail
from bench.rows import Aim, Row
from mailroom.mime import read

SIZES = (("read_4k", 4_000, 8_000), ("read_60k", 60_000, 3_000), ("read_1m", 1_000_000, 150))
"""Name, bytes, aim in mails a second."""
DIFFERENT = 200
SECONDS = 2.0


def rows() -> list[Row]:
    """One for each size."""
    random = Random(1)
    return [_row(name, size, aim, random) for name, size, aim in SIZES]


def _row(name: str, size: int, aim: float, random: Random) -> Row:
    count = max(DIFFERENT * 4_000 // size, 5)
    mails = [mail(random, size, "service@example.com") for _ in range(count)]
    ours = _rate(mails, read)
    bare = _rate(mails, fast_mail_parser.parse_email)
    return Row(name, ours, "mails/s", bare, Aim("ours", aim), {"bench": 1000 / ours})


def _rate(mails: list[bytes], reader: Callable[[bytes], object]) -> float:
    done, began = 0, time.perf_counter()
    while (lasted := time.perf_counter() - began) < SECONDS:
        for raw in mails:
            reader(raw)
        done += len(mails)
    return done / lasted

"""`make bench`: measure, print a table, write build/bench.json; some rows: ARGS="fetch send"."""

import argparse
import asyncio
import platform
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import fetching, growing, messages, reading, resting, sending, whole
from bench.rows import Row, table, write
from bench.stage import Stage, staged
from bench.storing import SERVICE

RESULT = Path("build/bench.json")


def main() -> None:
    """Measure those that the arguments name, or all."""
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(MEASURED))
    wanted = parser.parse_args().names or list(MEASURED)
    if unknown := set(wanted) - set(MEASURED):
        parser.error(f"{min(unknown)!r} is not measured: give one of {', '.join(MEASURED)}")
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}")
    rows: list[Row] = []
    try:
        with staged(SERVICE) as stage:
            for name in wanted:
                rows += MEASURED[name](stage)
                stage.empty_queues()
    finally:
        # What was measured before something failed took minutes.
        print(table(rows))
        write(rows, RESULT)


MEASURED: dict[str, Callable[[Stage], Sequence[Row]]] = {
    "read": lambda _: reading.rows(),
    "fetch": lambda stage: asyncio.run(fetching.rows(stage)),
    "messages": lambda stage: asyncio.run(messages.rows(stage)),
    "send": lambda stage: asyncio.run(sending.rows(stage)),
    "whole": lambda stage: asyncio.run(whole.rows(stage)),
    "idle": lambda stage: asyncio.run(resting.idle_rows(stage)),
    "memory": resting.rows,
    "grow": lambda stage: asyncio.run(growing.rows(stage)),
}

if __name__ == "__main__":
    main()

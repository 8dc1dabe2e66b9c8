"""Logs: one JSON object a line on standard output, of our own code and of the libraries alike.

Invariant: a line has a stable `event` code and ids, never a body and never a password; and one that
cannot be written stops nothing.
"""

import logging
import sys
from typing import Any, TextIO, cast

import structlog
from prometheus_client import Counter

LOST = Counter("mailroom_log_failures", "Writes to standard output that failed")
_CANNOT = (OSError, ValueError)  # ValueError: it is closed, or cannot encode a character

# By default both styles show every local variable of every frame: passwords, and mails.
_TRACEBACK = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)


def configure_logs(level: str, style: str) -> None:
    """Send everything to standard output, as `json` or as `text` for a person's terminal."""
    line: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    render: list[structlog.typing.Processor] = (
        [_TRACEBACK, structlog.processors.JSONRenderer()]
        if style == "json"
        else [
            structlog.dev.ConsoleRenderer(
                colors=sys.stdout.isatty(), exception_formatter=structlog.dev.plain_traceback
            )
        ]
    )
    # Ours do not take the way by the standard library, which costs five times as much a line.
    structlog.configure(
        processors=[*line, *render],
        logger_factory=_named,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=line,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    # They tell of every reconnect at INFO and above; what matters of it is told by us.
    for chatty in ("aio_pika", "aiormq", "aioimaplib", "faststream"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level)))


def _named(name: str) -> Any:
    logger: Any = structlog.WriteLogger(cast("TextIO", _Output()))
    logger.name = name
    return logger


class _Output:
    """Standard output, of which structlog asks these two, and whose failures are only counted.

    A full disk, or a collector that is gone, must not undo what a line is about: a mail that was
    sent would be unknown. The standard library's handlers let nothing through either.
    """

    def write(self, line: str) -> None:
        try:
            sys.stdout.write(line)
        except _CANNOT:
            LOST.inc()

    def flush(self) -> None:
        try:
            sys.stdout.flush()
        except _CANNOT:
            LOST.inc()

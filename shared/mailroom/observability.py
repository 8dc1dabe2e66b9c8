"""Logs: one JSON object a line on standard output, of our own code and of the libraries alike.

Invariant: a line has a stable `event` code and ids, never a body and never a password.
"""

import logging
import sys
from typing import Any

import structlog

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
    logger: Any = structlog.WriteLogger(sys.stdout)
    logger.name = name
    return logger

"""Logs: one JSON object a line on standard output, of our own code and of the libraries alike.

Invariant: a line has a stable `event` code and ids, never a body and never a password.
"""

import logging
import sys

import structlog


def configure_logs(level: str, style: str) -> None:
    """Send everything to standard output, as `json` or as `text` for a person's terminal."""
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    render: list[structlog.typing.Processor] = (
        [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
        if style == "json"
        else [structlog.dev.ConsoleRenderer(colors=sys.stdout.isatty())]
    )
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    # They tell of every reconnect at INFO and above; what matters of it is told by us.
    for chatty in ("aio_pika", "aiormq", "aioimaplib", "faststream"):
        logging.getLogger(chatty).setLevel(max(logging.WARNING, logging.getLevelName(level)))

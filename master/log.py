"""Logs of both programs: a line an event on standard error, readable on a terminal and JSON elsewhere. Never a secret.

Inside another program (`collector.stream`) only warnings are told, unless that program has configured structlog itself.
"""

import logging
import sys

import structlog


def logger(room: str) -> structlog.typing.FilteringBoundLogger:
    """The log of one room."""
    found: structlog.typing.FilteringBoundLogger = structlog.get_logger(room=room)
    return found


def configure(*, level: int = logging.INFO, component: str | None = None) -> None:
    """Set up logging of this process, which calls itself `component`."""
    _configure_structlog(level)
    if component is not None:
        structlog.contextvars.bind_contextvars(process=component)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    for chatty in ("websockets", "picows", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.ERROR if level > logging.DEBUG else logging.INFO)


def _configure_structlog(level: int) -> None:
    renderer = structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


if not structlog.is_configured():
    _configure_structlog(logging.WARNING)

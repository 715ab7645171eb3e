"""Logs of both programs: a line an event on standard error, readable on a terminal and JSON elsewhere. Never a secret."""

import logging
import sys

import structlog


def configure(*, debug: bool = False, component: str | None = None) -> None:
    """Set up logging of this process."""
    level = logging.DEBUG if debug else logging.INFO
    is_terminal = sys.stderr.isatty()
    renderer = structlog.dev.ConsoleRenderer() if is_terminal else structlog.processors.JSONRenderer()
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
        cache_logger_on_first_use=True,
    )
    if component is not None:
        structlog.contextvars.bind_contextvars(process=component)
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")
    for chatty in ("websockets", "picows", "asyncio"):
        logging.getLogger(chatty).setLevel(logging.ERROR if not debug else logging.INFO)

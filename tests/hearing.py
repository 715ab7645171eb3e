"""What the programs say to people, caught."""

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from logging import INFO
from typing import Any

import structlog
from structlog.testing import capture_logs

Said = list[MutableMapping[str, Any]]


@contextmanager
def logs() -> Iterator[Said]:
    """Every line logged meanwhile, from the level "info" on."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(INFO))
    try:
        with capture_logs() as said:
            yield said
    finally:
        structlog.configure(**before)


def events(said: Said) -> list[str]:
    return [line["event"] for line in said]

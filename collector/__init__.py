"""Asks the venues, and hands over what they say: all the I/O of the collecting side.

In another program: `async for event in collector.stream("config.json"): ...`
"""

from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from adapters.events import Event
    from collector.settings import Settings

__version__ = "0.1.0"


def stream(config: "Settings | Path | str | dict[str, Any]", simulator: str | None = None) -> "AsyncGenerator[Event, None]":
    """Every event of the configured exchanges; see collector.embed.stream."""
    from collector import embed  # noqa: PLC0415 (worker processes import this package, and need none of it)

    return embed.stream(config, simulator)

"""Waiting for a condition instead of for a time."""

import asyncio
from collections.abc import Callable
from time import monotonic, sleep

PATIENCE = 60.0
"""Seconds after which what was waited for counts as never coming; no test waits so long on its good path."""


async def until(is_so: Callable[[], object], what: str = "") -> None:
    """Let the loop run until this is so. A condition that never comes is a failure that says what it waited for."""
    began = monotonic()
    while not is_so():
        waited = monotonic() - began
        if waited > PATIENCE:
            raise AssertionError(f"never came: {what or is_so}")
        await asyncio.sleep(0.002 + min(waited, 1.0) / 50)  # to ask costs the time of what is waited for


def until_now(is_so: Callable[[], object], what: str = "") -> None:
    """The same where no loop runs."""
    deadline = monotonic() + PATIENCE
    while not is_so():
        if monotonic() > deadline:
            raise AssertionError(f"never came: {what or is_so}")
        sleep(0.01)

"""How far the lake has let go of what it had: known without the libraries that read it, which the master has no use for."""

from pathlib import Path

from master.segments import sync_path

GONE = "expired"
"""File with the number of the newest segment of which anything has expired."""


def remember(lake: Path, segment: int) -> None:
    """Before anything goes: nobody must take for whole what no longer is. Raises OSError."""
    aside = (lake / GONE).with_suffix(".writing")
    aside.write_text(str(segment))
    sync_path(aside)
    aside.rename(lake / GONE)
    sync_path(lake)


def last_gone(lake: Path) -> int:
    """The newest segment of which anything has expired; 0 where nothing has. Raises OSError."""
    try:
        return int((lake / GONE).read_text())
    except FileNotFoundError:
        return 0

"""docs/scale.md says what its unit costs make, and the arithmetic is that of a pencil."""

import runpy
from pathlib import Path

import pytest

from adapters import registry
from adapters.venue import Rate

ROOT = Path(__file__).parents[1]
SCRIPT = runpy.run_path(str(ROOT / "scripts" / "scale.py"))


def test_the_page_is_what_the_script_makes() -> None:
    page = (ROOT / "docs" / "scale.md").read_text()
    assert SCRIPT["made"](page) == page, "run scripts/scale.py"
    for name in SCRIPT["TABLES"]:
        assert f"<!-- {name}: made by" in page


def test_every_exchange_is_counted() -> None:
    assert set(SCRIPT["MARKETS"]) == set(registry.NAMES)


def test_a_busy_pair() -> None:
    """11.6 x 32 + 7.3 x 26 + 1 x 33 + 1.8 x 26 microseconds; 7.3 x 207 + 1115 + 1.8 x 234 bytes."""
    busy = SCRIPT["BUSY"]
    assert busy.worker == pytest.approx(371.2 + 189.8 + 33 + 46.8)
    assert busy.total("journal") == pytest.approx(1511.1 + 1115 + 421.2)


def test_a_start() -> None:
    assert SCRIPT["snapshot_weight"]("binance") == 50
    assert SCRIPT["snapshot_weight"]("kraken") == 0
    assert SCRIPT["connections"]("mexc") == 3 * 67
    paced = SCRIPT["_paced"]
    assert paced(1500 * 50, Rate(6000, 60.0)) == 12 * 60, "12 full minutes, and a half one at once"
    assert (paced(0, Rate(5, 1.0)), paced(5, Rate(5, 1.0)), paced(6, Rate(5, 1.0))) == (0, 0, 1)

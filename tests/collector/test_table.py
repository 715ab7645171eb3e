"""The table that a person watches: what is well is quiet, what is not has a colour."""

import io
from typing import Any

import pytest
from rich.console import Console

from collector.table import Rates, render

ENTRY: dict[str, Any] = {
    "connections": 2,
    "connections_wanted": 2,
    "pairs": {"live": 14, "quiet": 3},
    "books": 4,
    "books_synced": 4,
    "lag_ms": 1234.5,
    "events": {"trades": 1000, "orderbooks": 200, "deltas": 0, "tickers": 30},
    "gaps": 0,
}


def shown(entry: dict[str, Any], more: dict[str, dict[str, int]] | None = None, *, color: bool = False) -> str:
    to = io.StringIO()
    console = Console(file=to, width=200, force_terminal=color, color_system="standard" if color else None)
    console.print(render({"kraken": {**ENTRY, **entry}}, more or {}, Rates(), 0.0, "a title"))
    return to.getvalue()


def cells(text: str) -> list[str]:
    (line,) = [line for line in text.splitlines() if "kraken" in line]
    return line.split()


class TestRow:
    def test_in_demo_mode_nothing_is_said_of_what_is_stored(self) -> None:
        text = shown({})
        assert "a title" in text
        assert "stored" not in text
        assert cells(text)[:3] == ["kraken", "2/2", "14"]

    def test_beside_a_master(self) -> None:
        counts = {"acked": {"kraken": 1200}, "stored": {"kraken": 1_234_567}}
        assert cells(shown({}, counts))[-2:] == ["1,200", "1,234,567"]

    def test_it_is_whole_on_a_terminal_of_80_columns(self) -> None:
        to = io.StringIO()
        entry = {
            **ENTRY,
            "connections": 25,
            "connections_wanted": 25,
            "books": 90,
            "books_synced": 90,
            "lag_ms": 12.0,
        }
        counts = {heading: {"cryptocom": 1_234_567} for heading in ("acked", "stored")}
        Console(file=to, width=80).print(render({"cryptocom": entry}, counts, Rates(), 0.0, "a title"))
        assert "…" not in to.getvalue()
        assert to.getvalue().splitlines()[-1].split()[-2:] == ["1,234,567"] * 2

    def test_nothing_stored_yet(self) -> None:
        assert cells(shown({}, {"stored": {}}))[-1] == "0"

    def test_no_lag_where_none_is_known(self) -> None:
        assert "1,234" in shown({})
        assert "None" not in shown({"lag_ms": None})

    @pytest.mark.parametrize(
        ("entry", "colored"),
        [
            ({"connections": 1}, "1/2"),
            ({"books_synced": 3}, "3/4"),
            ({"gaps": 5}, "5"),
            ({"pairs": {"requested": 1, "acked": 6}}, "7"),
            ({"pairs": {"rejected": 8}}, "8"),
        ],
    )
    def test_what_is_not_well_has_a_colour(self, entry: dict[str, Any], colored: str) -> None:
        assert f"m{colored}\x1b" in shown(entry, color=True)
        assert "\x1b[3" not in shown({}, color=True).partition("kraken")[2], "and what is has none"


class TestRates:
    def test_events_a_second_since_the_last_look(self) -> None:
        rates = Rates()
        assert rates.of("kraken", 1000, 10.0) == 0
        assert rates.of("kraken", 1500, 12.0) == 250
        assert rates.of("kraken", 1500, 13.0) == 0

    def test_held_for_a_second_so_that_it_can_be_read(self) -> None:
        rates = Rates()
        rates.of("kraken", 0, 0.0)
        assert rates.of("kraken", 100, 1.0) == 100
        assert rates.of("kraken", 5000, 1.5) == 100
        assert rates.of("kraken", 5000, 2.0) == 4900

    def test_each_by_its_name(self) -> None:
        rates = Rates()
        for name in ("kraken", "okx"):
            rates.of(name, 0, 0.0)
        assert (rates.of("kraken", 10, 1.0), rates.of("okx", 20, 1.0)) == (10, 20)

"""Names of venues to their adapters."""

import subprocess
import sys
from pathlib import Path

import pytest

from adapters import registry
from adapters.adapter import ExchangeAdapter

every_venue = pytest.mark.parametrize("name", registry.NAMES)


@every_venue
def test_an_adapter_is_found_by_the_name_of_its_venue(name: str) -> None:
    found = registry.adapter(name)
    assert issubclass(found, ExchangeAdapter)
    assert found.venue.name == name


def test_names_are_sorted_and_single() -> None:
    assert list(registry.NAMES) == sorted(set(registry.NAMES))
    assert "binance" in registry.NAMES


@pytest.mark.parametrize("name", ["", "Binance", "binance ", "nowhere", "../binance", "adapter"])
def test_an_unknown_name_is_refused_with_the_list_of_known_ones(name: str) -> None:
    with pytest.raises(registry.UnknownExchangeError) as caught:
        registry.adapter(name)
    assert str(caught.value) == f"unknown exchange {name!r}; known are {', '.join(registry.NAMES)}"


def test_a_venue_is_imported_when_it_is_first_asked_for() -> None:
    program = "import sys; from adapters import registry; print([n for n in registry.NAMES if f'adapters.{n}' in sys.modules])"
    command = [sys.executable, "-c", program]
    root = Path(__file__).parents[2]
    assert subprocess.run(command, capture_output=True, check=True, text=True, cwd=root).stdout == "[]\n"


def test_every_module_of_a_venue_is_registered() -> None:
    """A file in adapters/ that defines an adapter and no one can ask for is an oversight."""
    folder = Path(__file__).parents[2] / "adapters"
    bases = "(ExchangeAdapter):"
    defining = {path.stem for path in folder.glob("*.py") if bases in path.read_text(encoding="utf-8")}
    assert defining == set(registry.NAMES)

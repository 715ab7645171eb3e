"""The dialects of the venues, one file each: how each writes (fact sheets, captures) what is true of a market."""

from importlib import import_module

import pytest

from adapters import registry
from tests.adapters.dialect import Dialect
from tests.adapters.imaginary_wire import Made


def load(name: str) -> type[Dialect]:
    """The dialect of a registered venue: the class in the file of its name."""
    module = import_module(f"tests.adapters.dialects.{name}")
    (dialect,) = (each for each in vars(module).values() if isinstance(each, type) and getattr(each, "name", None) == name)
    return dialect


DIALECTS: dict[str, type[Dialect]] = {name: load(name) for name in registry.NAMES} | {Made.name: Made}

every_dialect = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS.keys())

"""Rows of a side as venues write them, and what they make of a dict of Decimals."""

from decimal import Decimal

from hypothesis import strategies as st

from adapters.sides import Level


def spellings(ticks: int) -> list[str]:
    """The ways in which venues write a price of so many hundredths."""
    short = f"{ticks / 100:.2f}".rstrip("0").rstrip(".")
    return [f"{ticks / 100:.2f}", f"{ticks / 100:.8f}", short]


prices = st.integers(1, 40).flatmap(lambda ticks: st.sampled_from(spellings(ticks)))
amounts = st.sampled_from(["0", "0.0", "0.00000000", "1", "0.10", "0.1", "2.50000000"])
levels = st.builds(Level, prices, amounts)
rows = st.lists(levels, max_size=12)
long_rows = st.lists(levels, max_size=60)

Model = dict[Decimal, tuple[str, str]]


def apply_to(model: Model, changed: list[Level]) -> None:
    for row in changed:
        if Decimal(row.amount) == 0:
            model.pop(Decimal(row.price), None)
        else:
            model[Decimal(row.price)] = (row.price, row.amount)

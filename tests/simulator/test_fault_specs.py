"""How a fault is asked for, and that the seed decides whom it hits."""

import pytest

from simulator.faults import KINDS, Faults, parse

NAMES = ("binance", "kraken", "okx", "kucoin")


@pytest.mark.parametrize(
    ("spec", "value", "every"),
    [
        ("binance:drop", None, None),
        ("binance:drop=1012@30", 1012, 30.0),
        ("*:gap@0.5", None, 0.5),
        ("binance:gap=BTC/USDT", "BTC/USDT", None),
        ("kraken:stall", 60, None),
        ("kraken:slow=250", 250, None),
        ("okx:refuse", 503, None),
        ("kucoin:maintenance=5", 5, None),
        ("kucoin:corrupt=bytes", "bytes", None),
    ],
)
def test_specs_are_read(spec: str, value: object, every: float | None) -> None:
    read = parse(spec, NAMES)
    assert (read.value, read.every) == (value, every)


@pytest.mark.parametrize(
    "spec",
    ["", "binance", "binance:", "binance:explode", "ftx:gap", "binance:drop=x", "binance:drop=99", "binance:reject",
     "binance:reject=DOGE", "binance:slow", "binance:repeat=1", "binance:slow=5@3", "binance:gap@0", "binance:corrupt=all",
     "binance:gap@1.2.3", "binance:refuse=200", "binance:stall=-1"],
)  # fmt: skip
def test_bad_specs_are_one_clear_line(spec: str) -> None:
    with pytest.raises(ValueError, match=r"\w") as caught:
        parse(spec, NAMES)
    assert "\n" not in str(caught.value)


def test_an_unknown_fault_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown fault 'explode'") as caught:
        parse("binance:explode", NAMES)
    assert all(kind in str(caught.value) for kind in KINDS)


def test_the_seed_decides_which_frame_is_hit() -> None:
    def skips(seed: str) -> list[int]:
        faults = Faults("binance", seed, None, lambda: 0)
        for _ in range(20):
            faults.arm(parse("binance:gap", NAMES), 0.0)
        return [armed.skip for armed in faults._armed]

    assert skips("a") == skips("a") != skips("b")

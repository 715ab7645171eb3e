"""Bitfinex spot: public REST, /v2, each kind of call with its own count a minute (`Facts.rest` at most)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import orjson

from simulator.bitfinex_feeds import CODES, levels, native, pair, ticker, trade_rows
from simulator.instruments import Instrument
from simulator.limits import FixedWindow
from simulator.market import Market
from simulator.venue import Answer, Call, RefusalError

if TYPE_CHECKING:
    from simulator.exchange import Exchange

PERPETUAL = "BTCF0:USTF0"  # listed, so that lists have more than spot; it has no market here
NAMES = {"UST": "USDt"}  # where the venue's own map spells a currency in its own way


class Rest:
    """The calls a collector makes, for one exchange."""

    def __init__(self, exchange: Exchange, find: Callable[[str], Market | None]) -> None:
        self.exchange = exchange
        self._find = find
        self._windows: dict[tuple[str, str], FixedWindow] = {}
        self._routes: dict[str, tuple[int, Callable[[list[str], Call], str]]] = {  # calls a minute, handler
            "platform": (30, lambda _path, _call: "[1]"),
            "conf": (90, self._conf),
            "trades": (15, self._trades),
            "book": (240, self._book),
            "ticker": (90, self._ticker),
            "tickers": (90, self._tickers),
        }

    def answer(self, call: Call, now: float) -> Answer:
        """Bare arrays; errors are arrays too."""
        kind, *path = call.path.removeprefix("/v2/").split("/")
        route = self._routes.get(kind)
        if route is None or not call.path.startswith("/v2/"):
            return _error(10000, "unknown call", 404)
        limit, handler = route
        facts = self.exchange.facts
        window = self._windows.setdefault((call.address, kind), FixedWindow(min(limit, facts.rest), facts.rest_window))
        if not window.take(now):
            self.exchange.limited["rest"] += 1
            return _error(11010, "ratelimit: error", 429)
        try:
            return Answer(handler(path, call))
        except RefusalError as error:
            return _error(error.code, error.text, 500)

    def _conf(self, path: list[str], call: Call) -> str:
        """One array for each label asked for; one that is unknown is empty. Only what trades is listed."""
        instruments = self.exchange.instruments.values()
        currencies = sorted({code for i in instruments for code in (i.base, i.quote)})
        labels: dict[str, Callable[[], object]] = {
            "pub:info:pair": lambda: [_info(i) for i in instruments],
            "pub:info:pair:futures": lambda: [[PERPETUAL, [*[None] * 3, "0.00004", "100.0", *[None] * 7]]],
            "pub:list:pair:exchange": lambda: [pair(i) for i in instruments],
            "pub:list:pair:margin": lambda: [pair(i) for i in instruments if i.quote == "USD"],
            "pub:list:pair:futures": lambda: [PERPETUAL],
            "pub:list:currency": lambda: [CODES.get(name, name) for name in currencies],
            "pub:map:currency:sym": lambda: [[code, NAMES.get(code, name)] for name, code in CODES.items()],
        }
        asked = "/".join(path).split(",")
        return orjson.dumps([labels.get(label, list)() for label in asked]).decode()

    def _trades(self, path: list[str], call: Call) -> str:
        """The newest within the times, newest first; with sort=1 the oldest, oldest first."""
        market = self._market(path)
        limit = _integer(call, "limit", 125, 10_000)
        start, end = _integer(call, "start", 0), _integer(call, "end", 1 << 62)
        trades = [trade for trade in market.trades if start <= trade.time // 1000 <= end]
        chosen = trades[:limit] if call.query.get("sort") == "1" else trades[-limit:][::-1]
        return trade_rows(market.instrument, chosen)

    def _book(self, path: list[str], call: Call) -> str:
        market = self._market(path)
        length = call.query.get("len", "25")
        if path[1:] != ["P0"] or length not in {"1", "25", "100"}:
            raise RefusalError("precision: invalid" if path[1:] != ["P0"] else "length: invalid", 10020)
        _, book = self.exchange.snapshot(market)
        return levels(market.instrument, book, int(length))

    def _ticker(self, path: list[str], call: Call) -> str:
        return f"[{ticker(self._market(path))}]"

    def _tickers(self, path: list[str], call: Call) -> str:
        """Of the markets asked for, or of those that are alive."""
        asked = call.query.get("symbols", "")
        if not asked:
            raise RefusalError("symbols: invalid", 10020)
        every: Iterable[Market] = self.exchange.markets.values()
        found = every if asked == "ALL" else filter(None, [self._find(name) for name in asked.split(",")])
        rows = [f'["{native(market.instrument)}",{ticker(market)}]' for market in found]
        return f"[{','.join(rows)}]"

    def _market(self, path: list[str]) -> Market:
        market = self._find(path[0] if path else "")
        if market is None:
            raise RefusalError("symbol: invalid", 10020)
        return market


def _error(code: int, message: str, status: int) -> Answer:
    return Answer.json(["error", code, message], status)


def _integer(call: Call, name: str, default: int, most: int = 1 << 62) -> int:
    text = call.query.get(name) or str(default)
    if not text.isdecimal():
        raise RefusalError(f"{name}: invalid", 10020)
    return min(int(text), most)


def _info(instrument: Instrument) -> list[object]:
    """A row of pub:info:pair: least and greatest order at 3 and 4."""
    return [pair(instrument), [*[None] * 3, instrument.amount_text(4000), "2000.0", *[None] * 3, 0.2, 0.1, None, None]]

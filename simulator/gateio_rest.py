"""Gate spot: public REST, /api/v4, 200 calls in ten seconds for each endpoint and address. Answers have no envelope."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import orjson

from simulator.gateio_feeds import milliseconds, native, rows, ticker, trade_id
from simulator.instruments import ACTIVITY, Instrument
from simulator.limits import FixedWindow
from simulator.market import Market, Trade
from simulator.venue import Answer, Call, RefusalError

if TYPE_CHECKING:
    from simulator.exchange import Exchange

FRESH = 100  # levels of a book that is made anew for each call; a larger one may be as old as `CACHE` seconds (sheet, 7)
CACHE = 30.0
OFFSET = 100_000  # trades that pages reach back
MESSAGES = {
    "INVALID_CURRENCY_PAIR": "Invalid currency pair",
    "INVALID_PARAM_VALUE": "Invalid parameter value",
    "TOO_MANY_REQUESTS": "Request Rate limit Exceeded",
    "TOO_BUSY": "Server is too busy",
}


class Rest:
    """The calls a collector makes, for one exchange."""

    def __init__(self, exchange: Exchange, symbols: Mapping[str, str]) -> None:
        self.exchange = exchange
        self.symbols = symbols
        self._windows: dict[tuple[str, str], FixedWindow] = {}
        self._cached: dict[tuple[str, int], tuple[float, str]] = {}
        self._routes: dict[str, Callable[[Call], str]] = {
            "currency_pairs": self._currency_pairs,
            "order_book": self._order_book,
            "trades": self._trades,
            "tickers": self._tickers,
            "time": lambda _call: f'{{"server_time":{self.exchange.clock.stamp() // 1000}}}',
        }

    def answer(self, call: Call, now: float) -> Answer:
        """Plain JSON; what is left of the endpoint's window is in the headers."""
        route = self._routes.get(call.path.removeprefix("/api/v4/spot/"))
        if route is None:
            return Answer("404 page not found", 404, content_type="text/plain")
        facts = self.exchange.facts
        window = self._windows.setdefault((call.address, call.path), FixedWindow(facts.rest, facts.rest_window))
        if window.take(now):
            try:
                answer = Answer(route(call))
            except RefusalError as error:
                answer = refusal(error.text, 400)
        else:
            self.exchange.limited["rest"] += 1
            answer = refusal("TOO_MANY_REQUESTS", 429)
        answer.headers |= {
            "X-Gate-RateLimit-Requests-Remain": str(window.limit - window.used),
            "X-Gate-RateLimit-Limit": str(window.limit),
            "X-Gate-RateLimit-Reset-Timestamp": str(int(self.exchange.clock.stamp() / 1e6 + window.resets_in(now)) + 1),
        }
        return answer

    def _currency_pairs(self, call: Call) -> str:
        return orjson.dumps([_currency_pair(instrument) for instrument in self.exchange.instruments.values()]).decode()

    def _order_book(self, call: Call) -> str:
        """`id` only when it is asked for. A large book comes out of a cache, as old as it was made."""
        market = self._market(call)
        limit = _integer(call, "limit", 10, 1000)
        key, now = (market.symbol, limit), self.exchange.clock.now()
        made, body = self._cached.get(key, (0.0, ""))
        if limit <= FRESH or now - made >= CACHE / self.exchange.pace:
            sequence, book = self.exchange.snapshot(market)
            asks, bids = (rows(market.instrument, book.top(side, limit)) for side in (book.asks, book.bids))
            time = self.exchange.clock.stamp() // 1000
            body = f'"id":{sequence},"current":{time},"update":{time},"asks":[{asks}],"bids":[{bids}]'
            if limit > FRESH:
                self._cached[key] = (now, body)
        return f"{{{body if call.query.get('with_id') == 'true' else body.partition(',')[2]}}}"

    def _trades(self, call: Call) -> str:
        """Newest first: by seconds and page, or from an id on to older ones, to newer ones where `reverse` says so."""
        market = self._market(call)
        limit = _integer(call, "limit", 100, 1000)
        skip = limit * (max(_integer(call, "page", 1), 1) - 1)
        if skip > OFFSET:
            raise RefusalError("INVALID_PARAM_VALUE")
        last, newer = _integer(call, "last_id", 0), call.query.get("reverse") == "true"
        if last and newer:
            chosen = [trade for trade in market.trades if trade_id(trade) > last][skip : skip + limit][::-1]
        else:
            begin, end = _integer(call, "from", 0), _integer(call, "to", 1 << 62)
            chosen = [
                trade
                for trade in reversed(market.trades)
                if begin <= trade.time // 1_000_000 <= end and (not last or trade_id(trade) < last)
            ][skip : skip + limit]
        return orjson.dumps([_trade(market.instrument, trade) for trade in chosen]).decode()

    def _tickers(self, call: Call) -> str:
        """Of one pair, or of the markets that are alive."""
        markets = [self._market(call)] if "currency_pair" in call.query else self.exchange.markets.values()
        return orjson.dumps([_ticker(market) for market in markets]).decode()

    def _market(self, call: Call) -> Market:
        market = self.exchange.market(self.symbols.get(call.query.get("currency_pair", ""), ""), asked=True)
        if market is None:
            raise RefusalError("INVALID_CURRENCY_PAIR")
        return market


def refusal(label: str, status: int) -> Answer:
    return Answer.json({"label": label, "message": MESSAGES[label]}, status)


def _integer(call: Call, name: str, default: int, most: int = 1 << 62) -> int:
    text = call.query.get(name, str(default))
    if not text.isdecimal() or int(text) > most:
        raise RefusalError("INVALID_PARAM_VALUE")
    return int(text)


def _currency_pair(instrument: Instrument) -> dict[str, object]:
    """A row of the list. `min_base_amount` is absent from many (recorded)."""
    row: dict[str, object] = {"id": native(instrument), "base": instrument.base, "quote": instrument.quote, "fee": "0.2"}
    if instrument.base in ACTIVITY:
        row["min_base_amount"] = instrument.lot
    return row | {
        "min_quote_amount": "1",
        "amount_precision": instrument.amount_decimals,
        "precision": instrument.price_decimals,
        "trade_status": instrument.state or "tradable",
        "sell_start": 0,
        "buy_start": 0,
        "delisting_time": 0,
        "type": "normal",
        "st_tag": False,
    }


def _trade(instrument: Instrument, trade: Trade) -> dict[str, str]:
    return {
        "id": str(trade_id(trade)),
        "create_time": str(trade.time // 1_000_000),
        "create_time_ms": milliseconds(trade.time),
        "currency_pair": native(instrument),
        "side": "buy" if trade.buyer else "sell",
        "amount": instrument.amount_text(trade.lots),
        "price": instrument.price_text(trade.ticks),
        "sequence_id": str(trade.id),
    }


def _ticker(market: Market) -> dict[str, str]:
    """REST has two more changes, behind the first (recorded)."""
    changes: dict[str, str] = {}
    for key, value in ticker(market).items():
        changes[key] = value
        if key == "change_percentage":
            changes |= {"change_utc0": value, "change_utc8": value}
    return changes

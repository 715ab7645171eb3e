"""Kraken spot: public REST, /0/public. Prices and volumes are text here, and pairs have their old names."""

from __future__ import annotations

from collections.abc import Callable
from time import gmtime, strftime
from typing import TYPE_CHECKING

import orjson

from simulator.instruments import Instrument, Listing, rescaled
from simulator.kraken_feeds import average, order_type, stamp
from simulator.limits import Bucket
from simulator.market import Market, Trade
from simulator.venue import Answer, Call, RefusalError

if TYPE_CHECKING:
    from simulator.exchange import Exchange

INTERVALS = (1, 5, 15, 30, 60, 240, 1440, 10080, 21600)
LEGACY = {"BTC": "XXBT", "ETH": "XETH", "LTC": "XLTC", "XRP": "XXRP", "XLM": "XXLM", "ETC": "XETC", "DOGE": "XXDG"}
FIAT = {"USD": "ZUSD", "EUR": "ZEUR"}
OLD = {"BTC": "XBT", "DOGE": "XDG"}


class Rest:
    """The calls a collector makes, for one exchange."""

    def __init__(self, exchange: Exchange, listing: Listing) -> None:
        self.exchange = exchange
        self._buckets: dict[str, Bucket] = {}
        self._pairs: dict[str, str] = {}
        for instrument in listing.instruments:
            for name in (pair_key(instrument), old_name(instrument, ""), instrument.base + instrument.quote):
                self._pairs[name] = self._pairs[old_name(instrument, "/")] = instrument.symbol
        self._routes: dict[str, Callable[[Call], object]] = {
            "Time": self._time,
            "SystemStatus": self._status,
            "AssetPairs": self._asset_pairs,
            "Depth": self._depth,
            "Trades": self._trades,
            "Ticker": self._ticker,
            "OHLC": self._ohlc,
        }

    def answer(self, call: Call, now: float) -> Answer:
        """Errors come in the body, with HTTP 200."""
        facts = self.exchange.facts
        bucket = self._buckets.setdefault(call.address, Bucket(facts.rest, facts.rest / facts.rest_window))
        route = self._routes.get(call.path.removeprefix("/0/public/"))
        if route is None:
            return Answer.json({"error": ["EGeneral:Unknown method"]}, 404)
        if not bucket.take(now):
            self.exchange.limited["rest"] += 1
            return Answer.json({"error": ["EGeneral:Too many requests"]})
        try:
            result = route(call)
        except RefusalError as error:
            return Answer.json({"error": [error.text]})
        text = result if isinstance(result, str) else orjson.dumps(result).decode()
        return Answer(f'{{"error":[],"result":{text}}}')

    def _status(self, call: Call) -> object:
        return {"status": "online", "timestamp": stamp(self.exchange.clock.stamp())[:19] + "Z"}

    def _time(self, call: Call) -> object:
        seconds = self.exchange.clock.stamp() // 1_000_000
        return {"unixtime": seconds, "rfc1123": strftime("%a, %d %b %y %H:%M:%S +0000", gmtime(seconds))}

    def _asset_pairs(self, call: Call) -> object:
        if "pair" in call.query:
            wanted = [self._market(name).instrument for name in call.query["pair"].split(",")]
        else:
            wanted = list(self.exchange.instruments.values())
        return {pair_key(instrument): _asset_pair(instrument) for instrument in wanted}

    def _depth(self, call: Call) -> object:
        market = self._market(call.query.get("pair", ""))
        count = min(_integer(call, "count", 100), 500)
        instrument, book = market.instrument, self.exchange.snapshot(market)[1]
        seconds = self.exchange.clock.stamp() // 1_000_000
        sides = {
            name: [[_wide(instrument, ticks), rescaled(lots, 8, 3), seconds] for ticks, lots in book.top(side, count)]
            for name, side in (("asks", book.asks), ("bids", book.bids))
        }
        return {pair_key(instrument): sides}

    def _trades(self, call: Call) -> str:
        """Oldest first after `since`; fills of one instant are never divided between two pages."""
        market = self._market(call.query.get("pair", ""))
        count = min(max(_integer(call, "count", 1000), 1), 1000)
        since = _integer(call, "since", -1)
        if since < 0:
            trades = market.recent(count)
        else:
            after = since // 1000 if since >= 10**14 else since * 1_000_000  # nanoseconds, or seconds
            trades = [trade for trade in market.trades if trade.time > after]
            if len(trades) > count:
                whole = [trade for trade in trades[:count] if trade.time != trades[count].time]
                trades = whole or trades[:count]
        rows = [_trade_row(market.instrument, trade) for trade in trades]
        last = trades[-1].time * 1000 if trades else max(since, 0)
        return f'{{"{pair_key(market.instrument)}":[{",".join(rows)}],"last":"{last}"}}'

    def _ticker(self, call: Call) -> object:
        names = call.query["pair"].split(",") if "pair" in call.query else []
        markets = [self._market(name) for name in names] or list(self.exchange.markets.values())
        return {pair_key(market.instrument): _ticker_row(market) for market in markets}

    def _ohlc(self, call: Call) -> object:
        market = self._market(call.query.get("pair", ""))
        interval = _integer(call, "interval", 1)
        if interval not in INTERVALS:
            raise RefusalError("EGeneral:Invalid arguments")
        price, instrument = market.instrument.price_text, market.instrument
        candles = market.candles(interval, self.exchange.clock.stamp(), 720)
        rows = [
            [c.start // 1_000_000, *(price(p) for p in (c.open, c.high, c.low, c.close)), average(instrument, c),
             instrument.amount_text(c.volume), c.trades]
            for c in candles
        ]  # fmt: skip
        return {pair_key(instrument): rows, "last": candles[-2 if len(candles) > 1 else -1].start // 1_000_000}

    def _market(self, name: str) -> Market:
        market = self.exchange.market(self._pairs.get(name.upper(), ""), asked=True)
        if market is None:
            raise RefusalError("EQuery:Unknown asset pair")
        return market


def old_name(instrument: Instrument, separator: str) -> str:
    """The spelling of REST and v1, XBT and XDG: altname without a separator, wsname with a slash."""
    base, quote = instrument.base, instrument.quote
    return OLD.get(base, base) + separator + OLD.get(quote, quote)


def pair_key(instrument: Instrument) -> str:
    """The key of REST answers: XXBTZUSD for the old assets against old quotes, else the altname."""
    base, quote = instrument.base, instrument.quote
    if base in LEGACY and (quote == "BTC" or (quote in FIAT and base != "DOGE")):
        return LEGACY[base] + (LEGACY["BTC"] if quote == "BTC" else FIAT[quote])
    return "USDTZUSD" if instrument.symbol == "USDT/USD" else old_name(instrument, "")


def _asset_pair(instrument: Instrument) -> dict[str, object]:
    base, quote = instrument.base, instrument.quote
    return {
        "altname": old_name(instrument, ""),
        "wsname": old_name(instrument, "/"),
        "aclass_base": "currency",
        "base": LEGACY.get(base, base),
        "aclass_quote": "currency",
        "quote": FIAT.get(quote) or LEGACY.get(quote, quote),
        "lot": "unit",
        "cost_decimals": 5,
        "pair_decimals": instrument.price_decimals,
        "lot_decimals": 8,
        "lot_multiplier": 1,
        "leverage_buy": [],
        "leverage_sell": [],
        "fees": [[0, 0.4], [10000, 0.35]],
        "fees_maker": [[0, 0.25], [10000, 0.2]],
        "fee_volume_currency": "ZUSD",
        "margin_call": 80,
        "margin_stop": 40,
        "ordermin": least(instrument),
        "costmin": "0.5",
        "tick_size": instrument.tick,
        "status": instrument.state or "online",
    }


def least(instrument: Instrument) -> str:
    """The smallest order: about five dollars."""
    return "0.00005" if instrument.base == "BTC" else "0.002" if instrument.base == "ETH" else "5"


def _trade_row(instrument: Instrument, trade: Trade) -> str:
    seconds, micros = divmod(trade.time, 1_000_000)
    side, kind = "b" if trade.buyer else "s", order_type(trade)[0]
    return (
        f'["{_wide(instrument, trade.ticks)}","{instrument.amount_text(trade.lots)}",{seconds}.{micros:06d},'
        f'"{side}","{kind}","",{trade.id}]'
    )


def _ticker_row(market: Market) -> dict[str, object]:
    instrument, day, book = market.instrument, market.day, market.book
    bid, ask = book.bids[-1], book.asks[-1]
    amount = instrument.amount_text
    best = [[_wide(instrument, abs(k)), str(book.levels[k] // 10**8), rescaled(book.levels[k], 8, 3)] for k in (ask, bid)]
    last = market.trades[-1].lots if market.trades else 0
    low, high, first, close = (_wide(instrument, ticks) for ticks in (day.low, day.high, day.open, day.close))
    mean = _wide(instrument, day.turnover // day.volume if day.volume else 0)
    volume = amount(day.volume)
    return {
        "a": best[0], "b": best[1], "c": [close, amount(last)], "v": [volume, volume], "p": [mean, mean],
        "t": [day.trades, day.trades], "l": [low, low], "h": [high, high], "o": first,
    }  # fmt: skip


def _wide(instrument: Instrument, ticks: int) -> str:
    """REST prices carry at least five decimals."""
    return rescaled(ticks, instrument.price_decimals, max(5, instrument.price_decimals))


def _integer(call: Call, name: str, default: int) -> int:
    text = call.query.get(name, str(default))
    if not text.lstrip("-").isdecimal():
        raise RefusalError("EGeneral:Invalid arguments")
    return int(text)

"""What holds for every venue, whatever a client says to it."""

import json
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.binance import Binance
from simulator.connection import Connection
from simulator.exchange import Exchange
from simulator.limits import RollingWindow
from simulator.registry import VENUES, load
from simulator.server import Clock
from simulator.venue import Call
from tests.simulator.test_instruments import DIALECTS


def words(text: str) -> list[str]:
    return [*text.split(), ""]


WORDS = words("""
    subscribe unsubscribe SUBSCRIBE UNSUBSCRIBE SET_PROPERTY GET_PROPERTY LIST_SUBSCRIPTIONS ping combined book trade ticker
    ohlc instrument books trades books5 btcusdt@trade BTC/USD BTC-USDT /market/match:BTC-USDT /market/ticker:all
    market.btcusdt.bbo market.btcusdt.mbp.150 spot.trades spot.obu spot.order_book_update BTC_USDT ob.BTC_USDT.50 100ms
    /market/candles:BTC-USDT_1min @ : / publicTrade.BTCUSDT orderbook.50.BTCUSDT matches
    SUBSCRIPTION UNSUBSCRIPTION PING spot@public.aggre.deals.v3.api.pb@100ms@BTCUSDT public/respond-heartbeat SNAPSHOT
    trade.BTC_USD book.BTC_USD.50 candlestick.1m.BTC_USD sub unsub market_btcusdt_trade_ticker market_btcusdt_depth_step0
    conf tBTCUSD P0 SPOT spot publicTrade BTCUSDT
    level2_batch BTC-USD bts:subscribe bts:unsubscribe bts:heartbeat live_trades_btcusd diff_order_book_btcusd
""")
KEYS = words("""
    method params id req_id op args channel instId symbol depth interval event_trigger snapshot type topic response
    cb_id book_subscription_type book_update_frequency
    product_ids channels data event payload time sub unsub req pong flags prec freq len chanId instType
""")
keys = st.sampled_from(KEYS)
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.sampled_from(WORDS) | st.text(max_size=5)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=4), max_leaves=8
)
requests = st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, values))
asked = st.fixed_dictionaries(
    {key: st.sampled_from(WORDS) | values for key in ("method", "op", "type", "topic", "event")},
    optional={"params": requests | values, "args": st.lists(requests | values, max_size=3), "id": values, "req_id": values},
)
messages = (asked | requests | values).map(json.dumps) | st.text(max_size=20)


class Sink:
    """A transport that keeps nothing."""

    def write(self, data: bytes) -> None:
        assert data

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        """It is over already."""


def exchange(name: str) -> Exchange:
    dialect = load(name)
    return Exchange(dialect, 1, 100.0, Clock(), dialect.facts, 1.0)


def connection(path: str) -> Connection:
    window = RollingWindow(10**9, 1.0)
    made = Connection(cast("Any", Sink()), 1, 1 << 20, window, window, 0.0)
    made.path = path
    return made


EXCHANGES = {name: exchange(name) for name in VENUES}


@pytest.mark.parametrize("name", VENUES)
@settings(max_examples=40)
@given(message=messages, binary=st.booleans())
async def test_nothing_a_client_says_breaks_an_exchange(name: str, message: str, binary: bool) -> None:
    made = connection("/ws/v5/public")
    said = message.encode("utf-8", "replace") if binary else message
    EXCHANGES[name].venue.received(made, said, 0.0)
    for key in tuple(made.feeds):
        EXCHANGES[name].unsubscribe(made, key)


PATHS = words("""
    api/v3/depth api/v3/trades api/v3/aggTrades api/v3/klines api/v3/historicalTrades api/v3/exchangeInfo 0/public/Trades
    0/public/OHLC 0/public/Depth 0/public/Ticker 0/public/AssetPairs api/v5/market/books api/v5/market/history-trades
    market/depth market/history/trade v1/common/symbols api/v4/spot/order_book api/v4/spot/trades api/v4/spot/tickers
    api/v5/market/candles api/v5/public/instruments api/v1/market/orderbook/level2_100 api/v1/market/candles
    api/v1/market/histories api/v2/symbols v5/market/orderbook v5/market/recent-trade v5/market/instruments-info nonsense
    api/v2/spot/public/symbols api/v2/spot/market/fills-history api/v2/spot/market/orderbook api/v2/spot/market/tickers
    exchange/v1/public/get-trades exchange/v1/public/get-book exchange/v1/public/get-candlestick api/v1/depth api/v1/trades
    api/v1/aggTrades api/v1/market/kline products products/BTC-USD/book products/BTC-USD/trades products/BTC-USD/candles
    api/v2/order_book/btcusd api/v2/transactions/btcusd api/v2/ohlc/btcusd api/v2/markets
""")
NAMES = words("""
    symbol symbols limit fromId startTime endTime interval pair since count instId sz after before type bar instType startAt
    instrument_name start_ts end_ts timeframe scale fromIdx
    endAt category currency_pair from to page last_id reverse with_id size
""")
VALUES = words(
    'BTCUSDT BTC-USDT BTC_USDT BTC_USD btcusdt step1 XBTUSD 0 -1 5 99999999999999999999 x 1m 1min SPOT spot [ ["BTCUSDT"] é'
)
paths = st.sampled_from(PATHS)
queries = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VALUES), max_size=5)


@pytest.mark.parametrize("name", VENUES)
@given(path=paths, query=queries)
def test_every_call_has_an_answer(name: str, path: str, query: dict[str, str]) -> None:
    answer = EXCHANGES[name].venue.rest(Call("GET", "", f"/{path}", query, {}, "somewhere"), 0.0)
    assert answer.body
    assert 200 <= answer.status < 500


def test_the_registry_is_complete() -> None:
    assert [load(name) for name in VENUES] == DIALECTS
    assert [dialect.name for dialect in DIALECTS] == list(VENUES)
    hosts = [host for dialect in DIALECTS for host in dialect.hosts]
    assert len(hosts) == len(set(hosts))
    with pytest.raises(ValueError, match="unknown exchange 'ftx'"):
        load("ftx")
    assert load("binance") is Binance

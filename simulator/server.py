"""One port for all exchanges: routing by real host, WebSockets, the clockwork, and the Python API."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import cast

from aiohttp import WSMsgType, web

from simulator import control
from simulator.connection import PONG, Connection, frame
from simulator.exchange import Exchange
from simulator.faults import parse
from simulator.market import Market
from simulator.registry import VENUES, load
from simulator.venue import Answer, Call

TICK = 0.005  # seconds between two turns of the clockwork
MAX_MESSAGE = 1 << 20  # bytes of a client's message


class Clock:
    """Monotonic seconds for deadlines, and UTC microseconds that never step back for what is shown."""

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def now(self) -> float:
        return time.monotonic()

    def stamp(self) -> int:
        return int((time.monotonic() + self._offset) * 1e6)


class Simulator:
    """A running simulator. All methods are called in its event loop; symbols are canonical (`BTC/USDT`).

    Unknown exchanges, pairs and faults are ValueErrors with one clear line.
    """

    def __init__(
        self,
        exchanges: Iterable[str] | None = None,
        *,
        seed: int = 1,
        rate: float = 200.0,
        facts: Mapping[str, Mapping[str, object]] | None = None,
        time_scale: float = 1.0,
    ) -> None:
        self.seed = seed
        self.url = ""
        self.clockwork: asyncio.Task[None] | None = None
        clock = Clock()
        self.exchanges: dict[str, Exchange] = {}
        for name in dict.fromkeys(exchanges or VENUES):
            dialect = load(name)
            known = dialect.facts.scaled(time_scale).changed((facts or {}).get(name, {}))
            self.exchanges[name] = Exchange(dialect, seed, rate, clock, known, time_scale)
        self._named(*(facts or {}))
        self._hosts = {host: e for e in self.exchanges.values() for host in e.venue.hosts}
        self._paused = False
        self._handlers: set[asyncio.Task[object]] = set()
        self.app = web.Application()
        self.app.add_routes(control.routes(self))
        self.app.router.add_route("*", "/{path:.*}", self._handle)

    def arm(self, spec: str) -> None:
        """Arm a fault now: `binance:gap`, `*:drop=1012@30` (see faults). With `*` it is armed wherever it can be."""
        parsed = parse(spec, tuple(self.exchanges))
        wanted = list(self.exchanges.values()) if parsed.exchange == "*" else [self.exchanges[parsed.exchange]]
        refusals: list[ValueError] = []
        for exchange in wanted:
            try:
                exchange.arm(parsed)
            except ValueError as error:
                refusals.append(error)
        if len(refusals) == len(wanted):
            raise refusals[0]

    def clear(self) -> None:
        """Disarm every fault and end those that hold."""
        for exchange in self.exchanges.values():
            exchange.clear()

    def fired(self) -> list[dict[str, object]]:
        """The faults that struck, in order: exchange, fault, value, symbol, channel, connection, time (us)."""
        records = [record for exchange in self.exchanges.values() for record in exchange.faults.fired]
        return sorted(records, key=lambda record: cast("int", record["time"]))

    def stats(self) -> dict[str, dict[str, object]]:
        """Counts per exchange (see Exchange.stats)."""
        return {name: exchange.stats() for name, exchange in self.exchanges.items()}

    def trades(self, exchange: str, symbol: str, after: int = 0) -> list[dict[str, object]]:
        """The true trades with an id above `after`, oldest first: id (int), price, amount (the venue's own text), side
        (taker), timestamp (us). The last 100,000 are kept."""
        market = self._market(exchange, symbol)
        price, amount = market.instrument.price_text, market.instrument.amount_text
        identity = self.exchanges[exchange].venue.trade_id
        return [
            {
                "id": identity(trade),
                "price": price(trade.ticks),
                "amount": amount(trade.lots),
                "side": "buy" if trade.buyer else "sell",
                "timestamp": trade.time,
            }
            for trade in market.trades
            if identity(trade) > after
        ]

    def book(self, exchange: str, symbol: str, depth: int = 1000) -> dict[str, object]:
        """The true book now: bids and asks as [price, amount] text, best first, and its sequence."""
        market = self._market(exchange, symbol)
        book, price, amount = market.book, market.instrument.price_text, market.instrument.amount_text
        sides = {"bids": book.top(book.bids, depth), "asks": book.top(book.asks, depth)}
        rows = {name: [[price(ticks), amount(lots)] for ticks, lots in side] for name, side in sides.items()}
        return {"exchange": exchange, "symbol": symbol, "sequence": market.sequence, **rows}

    def pause(self) -> None:
        """Stop all trading. What the feeds still hold back goes out; keepalive goes on."""
        self._paused = True

    def resume(self) -> None:
        """Go on trading."""
        self._paused = False

    def change(self, exchange: str, facts: Mapping[str, object]) -> None:
        """Replace facts of an exchange from now on: `change("binance", {"session": 5})`. Windows keep their old size."""
        self._named(exchange)
        self.exchanges[exchange].facts = self.exchanges[exchange].facts.changed(facts)

    async def close_all(self) -> None:
        """End every connection and wait for its handler."""
        for exchange in self.exchanges.values():
            for connection in tuple(exchange.connections):
                connection.close(1001)
        handlers = tuple(self._handlers)
        if handlers:
            await asyncio.wait(handlers, timeout=0.2)
        for exchange in self.exchanges.values():
            for connection in tuple(exchange.connections):
                connection.abort()
        if handlers:
            await asyncio.wait(handlers, timeout=1.0)

    async def run(self) -> None:
        """The clockwork: markets trade, feeds flush, deadlines pass. Ends when cancelled."""
        exchanges = tuple(self.exchanges.values())
        before = time.monotonic()
        while True:
            await asyncio.sleep(TICK)
            now = time.monotonic()
            for exchange in exchanges:
                if not self._paused:
                    exchange.run(now - before)
                exchange.flush()
                exchange.upkeep()
                await asyncio.sleep(0)  # let the sockets breathe between venues
            before = now

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        exchange, call = self._route(request)
        if exchange is None:
            return web.json_response({"error": f"no simulated exchange at {call.host}{call.path}"}, status=404)
        if request.headers.get("Upgrade", "").lower() == "websocket":
            refusal = exchange.refuse(call)
            return _response(refusal) if refusal else await self._websocket(exchange, request, call)
        return _response(await exchange.rest(call))

    def _route(self, request: web.Request) -> tuple[Exchange | None, Call]:
        """Find the exchange by the first path segment (`/stream.binance.com:9443/ws`) or by the Host header."""
        own, host, path, base = request.host, request.host, request.path, ""
        first, _, rest = path.lstrip("/").partition("/")
        if first == own:  # an address this simulator gave away, mapped to it once more
            path = "/" + rest
            first, _, rest = rest.partition("/")
        if first.partition(":")[0] in self._hosts:
            host, path, base = first, "/" + rest, f"{request.scheme}://{own}"
        host = host.partition(":")[0]
        address = request.remote or ""
        call = Call(request.method, host, path, request.query, request.headers, address, base)
        return self._hosts.get(host), call

    async def _websocket(self, exchange: Exchange, request: web.Request, call: Call) -> web.StreamResponse:
        socket = web.WebSocketResponse(autoping=False, autoclose=False, compress=False, max_msg_size=MAX_MESSAGE)
        await socket.prepare(request)
        transport = request.transport
        if transport is None:  # gone while shaking hands
            return socket
        task = cast("asyncio.Task[object]", asyncio.current_task())
        self._handlers.add(task)
        connection = exchange.opened(transport, call)
        try:
            await _receive(socket, exchange, connection)
        finally:
            exchange.closed(connection)
            connection.transport.close()
            self._handlers.discard(task)
        return socket

    def _market(self, exchange: str, symbol: str) -> Market:
        self._named(exchange)
        market = self.exchanges[exchange].market(symbol)
        if market is None:
            raise ValueError(f"{symbol!r} is not listed at {exchange}")
        return market

    def _named(self, *names: str) -> None:
        for name in names:
            if name not in self.exchanges:
                raise ValueError(f"unknown exchange {name!r}; running: {', '.join(self.exchanges)}")


async def _receive(socket: web.WebSocketResponse, exchange: Exchange, connection: Connection) -> None:
    """Hand a client's messages to the exchange until either side ends the connection."""
    while True:
        message = await socket.receive()
        kind = message.type
        if kind in {WSMsgType.TEXT, WSMsgType.BINARY}:
            exchange.received(connection, message.data)
        elif kind is WSMsgType.PING:
            exchange.pinged(connection)
            connection.write(frame(bytes(message.data), PONG))
        elif kind is WSMsgType.PONG:
            exchange.ponged(connection)
        elif kind is WSMsgType.CLOSE:
            connection.close(int(message.data) or 1000)
            return
        else:  # closing, closed, error: the socket is gone
            return


def _response(answer: Answer) -> web.Response:
    body = answer.body.encode() if isinstance(answer.body, str) else answer.body
    return web.Response(body=body, status=answer.status, headers=answer.headers, content_type=answer.content_type)


@asynccontextmanager
async def serve(
    exchanges: Iterable[str] | None = None,
    *,
    seed: int = 1,
    rate: float = 200.0,
    faults: Iterable[str] = (),
    host: str = "127.0.0.1",
    port: int = 0,
    facts: Mapping[str, Mapping[str, object]] | None = None,
    time_scale: float = 1.0,
) -> AsyncIterator[Simulator]:
    """A simulator that listens for as long as the context lasts; nothing it started outlives it.

    exchanges: names, all where None. rate: market events per second of each exchange. faults: specs armed from the start.
    port: 0 lets the system choose, see `url`. facts: limits and deadlines replaced, by exchange. time_scale: how many times
    faster deadlines, windows and the periods of feeds run. Raises ValueError for what it does not know, OSError when it
    cannot listen.
    """
    simulator = Simulator(exchanges, seed=seed, rate=rate, facts=facts, time_scale=time_scale)
    for spec in faults:
        simulator.arm(spec)
    runner = web.AppRunner(simulator.app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=1024).start()
        simulator.url = f"http://{host}:{runner.addresses[0][1]}"
        simulator.clockwork = asyncio.create_task(simulator.run())
        try:
            yield simulator
        finally:
            simulator.clockwork.cancel()
            await simulator.close_all()
            with contextlib.suppress(asyncio.CancelledError):
                await simulator.clockwork  # raises what stopped it, if it stopped by itself
    finally:
        await runner.cleanup()

"""One port for all: routing, the controls, slow readers, clean ends, and the Python API."""

import asyncio
import gc
import socket
import struct
from collections.abc import Callable, Coroutine
from typing import Any, cast

import aiohttp
import orjson
import pytest
import uvloop

import simulator
from simulator import Simulator
from simulator.connection import Connection, frame
from simulator.limits import RollingWindow
from simulator.venue import Facts
from tests.simulator.support import Json, address, call, connect, eventually, get

TRADES = "stream.binance.com/ws/btcusdt@trade"
TIME = "api/v3/time"


@pytest.mark.parametrize("prefix", ["api.binance.com", "api.binance.com:443", "data-api.binance.vision", "api3.binance.com"])
async def test_routing_by_path(prefix: str) -> None:
    async with simulator.serve(["binance"]) as sim:
        assert "serverTime" in await call(sim, f"{prefix}/{TIME}")


async def test_routing_by_host_header() -> None:
    async with simulator.serve(["binance", "kraken"]) as sim:
        assert "serverTime" in await call(sim, TIME, headers={"Host": "api.binance.com"})
        assert "result" in await call(sim, "0/public/Time", headers={"Host": "api.kraken.com:443"})
        async with connect(sim, "ws/btcusdt@trade", headers={"Host": "stream.binance.com:9443"}) as client:
            assert (await client.json())["e"] == "trade"


async def test_an_address_of_the_simulator_may_be_mapped_once_more() -> None:
    async with simulator.serve(["binance"]) as sim:
        own = sim.url.removeprefix("http://")
        assert "serverTime" in await call(sim, f"{own}/api.binance.com/{TIME}")


@pytest.mark.parametrize("path", ["", "nowhere.example/x", "api.kraken.com/0/public/Time", "_simulator/nothing"])
async def test_what_is_not_simulated_is_404(path: str) -> None:
    async with simulator.serve(["binance"]) as sim:
        status, body, _ = await get(sim, path)
        assert (status, "no simulated exchange" in body) == (404, True)


async def test_only_what_is_asked_for_is_simulated() -> None:
    async with simulator.serve(["binance", "okx"], rate=2000) as sim, connect(sim, TRADES) as client:
        for _ in range(20):
            await client.json()
        stats = sim.stats()
        assert (stats["binance"]["markets"], stats["okx"]["markets"]) == (1, 0)
        assert stats["binance"]["connections"] == stats["binance"]["subscriptions"] == 1
        await client.socket.close()
        await eventually(lambda: sim.stats()["binance"]["markets"] == 0)


async def test_the_rate_is_kept() -> None:
    async with simulator.serve(["binance"], rate=2000) as sim, connect(sim, TRADES):
        await eventually(lambda: sim.stats()["binance"]["changes"])
        rates: list[float] = []
        while not any(1700 < rate < 2300 for rate in rates):  # a busy machine may spoil a look, but not all of them
            assert len(rates) < 10, rates
            rates.append(await rate_of(sim))


async def rate_of(sim: Simulator) -> float:
    loop = asyncio.get_running_loop()
    before, began = events(sim), loop.time()
    await eventually(lambda: loop.time() - began > 0.6)
    return (events(sim) - before) / (loop.time() - began)


def events(sim: Simulator) -> int:
    """Those that were, and those a busy machine gave up."""
    stats: dict[str, Any] = sim.stats()["binance"]
    return int(stats["trades"] + stats["changes"] + stats["given_up"])


async def test_pause_stops_the_market_and_resume_goes_on() -> None:
    async with simulator.serve(["binance"], rate=2000) as sim, connect(sim, TRADES) as client:
        await client.json()
        sim.pause()
        book, count = sim.book("binance", "BTC/USDT"), events(sim)
        loop = asyncio.get_running_loop()
        until = loop.time() + 0.1
        await eventually(lambda: loop.time() > until)
        assert (sim.book("binance", "BTC/USDT"), events(sim)) == (book, count)
        sim.resume()
        await eventually(lambda: events(sim) > count)


async def bare(sim: Simulator, path: str) -> socket.socket:
    """A WebSocket client that is nothing but its socket."""
    host, port = sim.url.removeprefix("http://").split(":")
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(client, (host, int(port)))
    upgrade = (
        f"GET /{path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    await loop.sock_sendall(client, upgrade.encode())
    return client


async def test_a_slow_reader_is_cut_off_and_harms_nobody() -> None:
    facts = {"binance": {"queue": 20_000}}
    streams = "/".join(f"{name}usdt@depth@100ms/{name}usdt@trade/{name}usdt@bookTicker" for name in ("btc", "eth", "xrp"))
    async with simulator.serve(["binance"], rate=60_000, facts=facts) as sim, connect(sim, TRADES) as reader:
        lazy = await bare(sim, f"stream.binance.com/stream?streams={streams}")
        first = (await reader.json())["t"]
        async with asyncio.timeout(15):
            while sim.stats()["binance"]["limited"] != {"send_queue": 1}:
                await reader.json()
        lazy.close()
        assert sim.stats()["binance"]["connections"] == 1
        assert (await reader.json())["t"] > first


async def vanish(sim: Simulator, count: int) -> None:
    """Connect that many clients, listen once, and be gone without a word."""
    path = "stream.binance.com/stream?streams=btcusdt@depth@100ms/btcusdt@trade/ethusdt@bookTicker"
    clients = [await bare(sim, path) for _ in range(count)]
    for client in clients:
        await asyncio.get_running_loop().sock_recv(client, 1000)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset instead of a goodbye
    for client in clients:
        client.close()


@pytest.mark.parametrize("run", [asyncio.run, uvloop.run])
def test_clients_that_vanish_harm_nobody(run: Callable[[Coroutine[Any, Any, None]], None]) -> None:
    """On both event loops: uvloop, on which the program runs, raises where asyncio only warns."""

    async def scene() -> None:
        faults = ["*:drop@0.02", "*:repeat@0.02", "*:swap@0.02", "*:corrupt@0.02"]
        async with simulator.serve(["binance"], rate=20_000, faults=faults) as sim:
            for _ in range(10):
                await vanish(sim, 10)
            sim.clear()
            async with connect(sim, TRADES) as client:
                await client.json()
            await eventually(lambda: sim.stats()["binance"]["connections"] == 0)

    run(scene())


class Gone:
    """The transport of a client that has gone, as uvloop has it."""

    def is_closing(self) -> bool:
        return True

    def write(self, data: bytes) -> None:
        raise RuntimeError("the handler is closed")


async def test_nothing_is_written_to_a_client_that_has_gone() -> None:
    window = RollingWindow(1, 1.0)
    connection = Connection(cast("Any", Gone()), 1, 100, window, window, 0.0)
    connection.send("late")
    connection.slow(0.001)
    connection.send("later")
    connection.slow(0.0)
    connection.flush()
    connection.close(1000)
    assert connection.frames == 0


async def test_nothing_outlives_the_context() -> None:
    before = asyncio.all_tasks()
    session = aiohttp.ClientSession()
    async with simulator.serve(rate=1000, faults=["*:slow=20"]) as sim:
        sockets = [await session.ws_connect(address(sim, TRADES)), await session.ws_connect(address(sim, "ws.kraken.com/v2"))]
        await sockets[0].receive_json()
    await session.close()
    await eventually(lambda: asyncio.all_tasks() - before <= set())
    gc.collect()
    with pytest.raises(aiohttp.ClientConnectorError):
        await get(sim, f"api.binance.com/{TIME}")


async def test_connections_are_closed_with_1001_at_the_end() -> None:
    async with aiohttp.ClientSession() as session:
        async with simulator.serve(["binance"]) as sim:
            websocket = await session.ws_connect(address(sim, "stream.binance.com/ws"))
            reading = asyncio.create_task(websocket.receive())
        message = await reading
        assert (message.type, websocket.close_code) == (aiohttp.WSMsgType.CLOSE, 1001)


async def test_a_failure_of_the_clockwork_is_not_swallowed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("simulator.exchange.Exchange.flush", fail)
    context = simulator.serve(["binance"])
    sim = await context.__aenter__()
    assert sim.clockwork
    await asyncio.wait({sim.clockwork})
    with pytest.raises(ZeroDivisionError):
        await context.__aexit__(None, None, None)


# ------------------------------------------------------------------------ facts


async def test_time_scale_makes_days_seconds() -> None:
    async with simulator.serve(["binance"], time_scale=86_400 * 4) as sim, connect(sim, "stream.binance.com/ws") as client:
        assert (await client.json())["e"] == "serverShutdown"
        assert (await client.closed()).code == 1001


async def test_facts_can_change_while_it_runs() -> None:
    async with simulator.serve(["binance"]) as sim, connect(sim, "stream.binance.com/ws") as client:
        body = {"exchange": "binance", "session": 0.1}
        assert await call(sim, "_simulator/facts", "POST", json=body) == body
        assert (await client.closed()).code == 1001


@pytest.mark.parametrize(
    "changes", [{"nonsense": 1}, {"topics": 1.5}, {"topics": None}, {"session": "x"}, {"session": True}, {"controls": 1}]
)
def test_wrong_facts_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        Facts(connects=1, connect_window=1.0, topics=1, rest=1, rest_window=1.0).changed(changes)


def test_time_scale_divides_durations_and_no_counts() -> None:
    facts = Facts(connects=10, connect_window=60.0, topics=100, rest=5, rest_window=1.0, session=86_400.0)
    fast = facts.scaled(10)
    assert (fast.connects, fast.connect_window, fast.session, fast.ping) == (10, 6.0, 8640.0, None)


async def test_unknown_names_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match="unknown exchange 'ftx'; known: binance, kraken, okx, kucoin"):
        Simulator(["ftx"])
    with pytest.raises(ValueError, match="unknown exchange 'okx'; running: binance"):
        Simulator(["binance"], facts={"okx": {}})
    async with simulator.serve(["binance"]) as sim:
        with pytest.raises(ValueError, match="'FOO/USDT' is not listed at binance"):
            sim.trades("binance", "FOO/USDT")


# --------------------------------------------------------------------- controls


async def test_truth_over_http_is_that_of_the_python_api() -> None:
    async with simulator.serve(["binance"], rate=2000) as sim, connect(sim, TRADES) as client:
        last = (await client.json())["t"]
        assert await call(sim, "_simulator/pause", "POST") == {"paused": True}
        query = "exchange=binance&symbol=BTC/USDT"
        assert await call(sim, f"_simulator/trades?{query}&after={last}") == sim.trades("binance", "BTC/USDT", last)
        assert await call(sim, f"_simulator/book?{query}&depth=7") == sim.book("binance", "BTC/USDT", 7)
        stats: Json = await call(sim, "_simulator/stats")
        assert stats.keys() == {"binance"}
        assert stats["binance"]["trades"] > 0
        assert await call(sim, "_simulator/resume", "POST") == {"paused": False}


async def test_faults_over_http() -> None:
    async with simulator.serve(["binance"], rate=2000) as sim, connect(sim, TRADES) as client:
        await call(sim, "_simulator/faults", "POST", json={"spec": "binance:drop=1012"})
        assert (await client.closed()).code == 1012
        record = (await call(sim, "_simulator/faults"))[0]
        assert (record["fault"], record["value"], record["symbol"]) == ("drop", 1012, "BTC/USDT")
        await call(sim, "_simulator/faults", "POST", json={"spec": "binance:reject=BTC/USDT"})
        assert (await get(sim, "api.binance.com/api/v3/depth?symbol=BTCUSDT"))[0] == 400
        await call(sim, "_simulator/faults", "DELETE")
        assert (await get(sim, "api.binance.com/api/v3/depth?symbol=BTCUSDT"))[0] == 200


@pytest.mark.parametrize(
    ("path", "method", "body"),
    [
        ("trades?exchange=ftx&symbol=BTC/USDT", "GET", ""),
        ("trades?exchange=binance&symbol=FOO/USDT", "GET", ""),
        ("trades?exchange=binance&symbol=BTC/USDT&after=x", "GET", ""),
        ("book?exchange=binance", "GET", ""),
        ("faults", "POST", '{"spec":"binance:explode"}'),
        ("faults", "POST", "not json"),
        ("faults", "POST", "[]"),
        ("facts", "POST", '{"exchange":"binance","nonsense":1}'),
        ("facts", "POST", '{"session":1}'),
    ],
)
async def test_wrong_controls_are_one_clear_line(path: str, method: str, body: str) -> None:
    async with simulator.serve(["binance"]) as sim:
        status, text, _ = await get(sim, f"_simulator/{path}", method, data=body)
        assert status == 400
        assert len(orjson.loads(text)["error"].splitlines()) == 1


# ----------------------------------------------------------------------- frames


@pytest.mark.parametrize("size", [0, 125, 126, 65535, 65536])
def test_frames_are_whole_and_unmasked(size: int) -> None:
    data = frame("x" * size)
    head = {0: 2, 125: 2, 126: 4, 65535: 4, 65536: 10}[size]
    assert (data[0], len(data)) == (0x81, head + size)
    assert data[1] == {2: size, 4: 126, 10: 127}[head]
    assert frame(b"x")[0] == 0x82

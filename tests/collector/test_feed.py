"""One connection, byte by byte: what each read of the socket brought reaches the adapter together, in order and whole."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from random import Random

import aiohttp
import orjson
import pytest
from picows import WSListener
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol

from adapters.events import Event, Gap, Trade
from adapters.live import Output
from collector import feed
from collector.feed import MAX_FRAME, Counts, Feed, Surroundings
from collector.limits import Breaker, Window
from collector.rest import RestClient
from tests.adapters.driving import of
from tests.adapters.puppet import VENUE, Call, Puppet, trade
from tests.waiting import until


def said(*calls: Call) -> bytes:
    return orjson.dumps(calls)


def text(*calls: Call) -> bytes:
    return sent(Opcode.TEXT, said(*calls))


def sent(opcode: Opcode, payload: bytes, *, fin: bool = True) -> bytes:
    """A frame as a server sends it."""
    return Frame(opcode, payload, fin).serialize(mask=False)


class Attentive(Puppet):
    """Notes what it is handed: the frames of each read, and when they arrived."""

    reads: list[tuple[list[bytes], int]]
    signs: list[int]
    lost_with: list[tuple[int, str]]

    def __init__(self) -> None:
        super().__init__([("trades", "BTC/USDT")])
        self.reads, self.signs, self.lost_with = [], [], []

    def receive_all(self, frames: list[bytes], received: int) -> list[Output]:
        self.reads.append((frames, received))
        return super().receive_all(frames, received)

    def heard(self, received: int) -> None:
        self.signs.append(received)
        super().heard(received)

    def lost(self, code: int, reason: str, now: float) -> list[Output]:
        self.lost_with.append((code, reason))
        return super().lost(code, reason, now)


class Server:
    """The other end of one connection at a time: writes what a test says in one piece, and keeps the client's frames.

    `answer`: what it says to the handshake, and then ends the connection; None: what the protocol wants.
    """

    def __init__(self, answer: bytes | None = None) -> None:
        self.answer = answer
        self.heard: list[Frame] = []
        self.connections = 0
        self._writer: asyncio.StreamWriter | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        protocol = ServerProtocol()
        self._writer = writer
        try:
            while data := await reader.read(1 << 16):
                protocol.receive_data(data)
                for event in protocol.events_received():
                    if isinstance(event, Request):
                        self.connections += 1
                        if self.answer is not None:
                            writer.write(self.answer)
                            return
                        protocol.send_response(protocol.accept(event))
                        writer.write(b"".join(protocol.data_to_send()))
                    elif isinstance(event, Frame):
                        self.heard.append(event)
        except ConnectionError:
            pass  # the client may end as it likes
        finally:
            writer.close()

    def write(self, *frames: bytes) -> None:
        assert self._writer is not None
        self._writer.write(b"".join(frames))

    def of(self, opcode: Opcode) -> list[bytes]:
        return [bytes(frame.data) for frame in self.heard if frame.opcode is opcode]


class Mute(Server):
    """Takes connections and says nothing."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()


@dataclass
class Scene:
    """A feed with an open connection, and all that came of it."""

    server: Server
    adapter: Attentive
    feed: Feed
    events: list[Event]

    @property
    def ids(self) -> list[str]:
        return [each.id for each in of(self.events, Trade)]


@asynccontextmanager
async def feeding(server: Server) -> AsyncIterator[Scene]:
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    adapter = Attentive()

    def route(_: str) -> str:
        return f"ws://127.0.0.1:{port}/"

    async with aiohttp.ClientSession() as session:
        limits = VENUE.limits
        rest = RestClient(session, limits, route)
        around = Surroundings(rest, Window(limits.connects), Breaker(), route, Random(1), Counts())
        events: list[Event] = []
        connection = Feed(adapter, around, events.append, lambda _: None)
        running = asyncio.create_task(connection.run())
        try:
            yield Scene(server, adapter, connection, events)
        finally:
            running.cancel()
            with suppress(asyncio.CancelledError):
                await running
            listening.close()


@asynccontextmanager
async def connected() -> AsyncIterator[Scene]:
    async with feeding(Server()) as scene:
        await until(lambda: scene.server.of(Opcode.TEXT), "the subscription")
        yield scene


async def test_what_one_read_brought_is_handed_over_together_and_in_order() -> None:
    async with connected() as scene:
        frames = [said(trade(number)) for number in range(1, 21)]
        scene.server.write(*(sent(Opcode.TEXT, frame) for frame in frames))
        await until(lambda: len(scene.ids) == 20, "all trades")
        ((handed, received),) = scene.adapter.reads
        assert handed == frames
        assert {event.received for event in scene.events} == {received}
        assert scene.ids == [str(number) for number in range(1, 21)]
        assert scene.feed.counts.frames == 20


async def test_a_ping_amid_data_is_answered_and_holds_nothing_back() -> None:
    async with connected() as scene:
        scene.server.write(text(trade(1)), sent(Opcode.PING, b"are you there"), text(trade(2)))
        await until(lambda: scene.server.of(Opcode.PONG), "the pong")
        scene.server.write(text(trade(3)), sent(Opcode.PING, b"still there"))
        await until(lambda: len(scene.server.of(Opcode.PONG)) == 2, "the second pong")
        assert scene.server.of(Opcode.PONG) == [b"are you there", b"still there"]
        assert scene.ids == ["1", "2", "3"]
        assert [len(frames) for frames, _ in scene.adapter.reads] == [2, 1]


@pytest.mark.parametrize("opcode", [Opcode.PING, Opcode.PONG])
async def test_control_frames_alone_are_a_sign_of_life_and_no_data(opcode: Opcode) -> None:
    async with connected() as scene:
        scene.server.write(sent(opcode, b""))
        await until(lambda: scene.adapter.signs, "the sign of life")
        assert scene.adapter.reads == []


async def test_a_message_in_parts_is_one_whatever_comes_between_them() -> None:
    async with connected() as scene:
        whole = said(trade(2))
        first, second, third = whole[:10], whole[10:20], whole[20:]
        scene.server.write(text(trade(1)), sent(Opcode.TEXT, first, fin=False))
        await until(lambda: scene.ids == ["1"], "what is before the first part is not held back by it")
        scene.server.write(sent(Opcode.PING, b""), sent(Opcode.CONT, second, fin=False))
        await until(lambda: scene.server.of(Opcode.PONG), "the pong")
        scene.server.write(sent(Opcode.CONT, third), text(trade(3)))
        await until(lambda: len(scene.ids) == 3, "the rest")
        assert scene.ids == ["1", "2", "3"]
        assert scene.adapter.reads[-1][0][0] == whole
        assert scene.feed.counts.frames == 3


async def test_a_frame_cut_by_the_network_comes_with_the_read_that_completes_it() -> None:
    async with connected() as scene:
        frame = text(trade(2))
        scene.server.write(text(trade(1)), frame[:20])
        await until(lambda: scene.ids == ["1"], "the whole one")
        scene.server.write(frame[20:])
        await until(lambda: scene.ids == ["1", "2"], "the other")


async def test_what_cannot_be_read_is_counted_and_takes_no_neighbour_along() -> None:
    async with connected() as scene:
        scene.server.write(text(trade(1)), sent(Opcode.TEXT, b"{"), text(trade(2)), text(("broken", {})), text(trade(3)))
        await until(lambda: len(scene.ids) == 3, "all that can be read")
        assert scene.ids == ["1", "2", "3"]
        assert scene.feed.counts.errors == {"UnreadableError": 1, "FrameError": 1}


@pytest.mark.parametrize(
    ("end", "told"),
    [
        pytest.param(sent(Opcode.CLOSE, b"\x03\xe9going away"), (1001, "going away"), id="closed by the venue"),
        pytest.param(b"\xff\x00", (1006, "connection lost"), id="an opcode that is none"),
        pytest.param(b"\x81\x7f" + (MAX_FRAME + 1).to_bytes(8), (1006, "connection lost"), id="larger than any message"),
    ],
)
async def test_what_came_before_the_end_of_a_connection_is_told_before_its_hole(end: bytes, told: tuple[int, str]) -> None:
    async with connected() as scene:
        scene.server.write(text(trade(1)), text(trade(2)), end)
        await until(lambda: scene.adapter.lost_with, "the end")
        assert scene.ids == ["1", "2"]
        assert scene.adapter.lost_with == [told]
        assert not scene.feed.is_open
        await until(lambda: scene.server.connections == 2, "the next connection")
        scene.server.write(text(trade(5)))
        await until(lambda: len(scene.ids) == 3, "and its first trade")
        (gap,) = of(scene.events, Gap)
        assert (gap.first_missing, gap.last_missing) == ("3", "4")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        pytest.param(b"", "the host ended the connection before it answered", id="nothing"),
        pytest.param(b"HTTP/1.1 101 Switching", "the host ended the connection before it answered", id="half an answer"),
        pytest.param(b"\x15\x03\x01\x00\x02\x02\x0a\r\n\r\n", "handshake failed", id="no HTTP"),
        pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", "HTTP 200: the venue refuses", id="a page"),
        pytest.param(b"HTTP/1.1 451 No\r\n\r\n", "HTTP 451: the venue does not serve this country", id="a refusal"),
        pytest.param(b"HTTP/1.1 302 Found\r\nLocation: wss://elsewhere.example/\r\n\r\n", "HTTP 302", id="another address"),
        pytest.param(b"HTTP/1.1 101 Yes\r\nSec-WebSocket-Accept: no\r\n\r\n", "HTTP 101", id="for somebody else"),
    ],
)
async def test_a_handshake_that_comes_to_nothing_says_why_and_is_tried_again(answer: bytes, reason: str) -> None:
    async with feeding(Server(answer)) as scene:
        await until(lambda: scene.server.connections == 2, "a second attempt")
        ((code, said), *_) = scene.adapter.lost_with
        assert code == 1006
        assert reason in said
        scene.server.answer = None
        await until(lambda: scene.server.of(Opcode.TEXT), "a connection")
        scene.server.write(text(trade(1)))
        await until(lambda: scene.ids == ["1"], "its data")


async def test_who_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feed, "CONNECT_WITHIN", 0.2)
    async with feeding(Mute()) as scene:
        await until(lambda: scene.adapter.lost_with, "the end")
        assert "no answer within" in scene.adapter.lost_with[0][1]


@pytest.mark.parametrize(
    "address", ["", "wss://", "wss://a..b/", "wss://host:99999/", "wss://[::1", "https://host/", "ws://\0/"]
)
async def test_what_is_no_address_is_said(address: str) -> None:
    with pytest.raises(feed.NotConnectedError, match=r"no address|valid URL"):
        await feed.dial(address, {}, WSListener())

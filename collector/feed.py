"""One venue connection: bytes in, frames out, and every way in which it can end. Only this file knows the WebSocket library."""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from socket import gaierror
from time import monotonic, time_ns
from typing import Any, get_args

from msgspec import Struct
from picows import WSCloseCode, WSError, WSFrame, WSHandshakeError, WSListener, WSMsgType, WSTransport, ws_connect

from adapters.adapter import ExchangeAdapter
from adapters.effects import Answer, Connect, Fetch, Reconnect, Send
from adapters.errors import AdapterError, FetchError
from adapters.events import Event, Status
from adapters.live import Output
from collector.limits import Breaker, Window
from collector.recorder import Recorder
from collector.rest import Reply, RestClient, Route
from collector.sink import Put
from master.backoff import Backoff
from master.log import logger

log = logger("feed")

CONNECT_WITHIN = 15.0
ADDRESS_WITHIN = 60.0
SAY_EVERY = 60.0
CLOSE_WITHIN = 2.0
LONGEST_PAUSE = 3600.0
"""Seconds that a venue can send us away; past that we knock again."""
MAX_FRAME = 64 << 20  # Coinbase sends books of several megabytes in one frame
ABNORMAL = 1006

PROVEN_AFTER = 5.0
"""Seconds a connection must hold before its venue counts as one that accepts us."""

_DATA = frozenset({WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.CONTINUATION})
_MOST_OF_CONTROL = 125
"""Bytes that a control frame holds at most (RFC 6455 5.5): what is larger is data. To ask a frame for its type costs six times
as much as to ask for its size."""
_EVENTS = frozenset(get_args(Event)) - {Status}
_REFUSALS = {
    403: "the venue forbids this address (a firewall, or too many requests before)",
    418: "the venue has banned this address for a while",
    429: "the venue says: too many connections",
    451: "the venue does not serve this country",
}


@dataclass(slots=True)
class Counts:
    """Of all connections of an exchange in this process, since its start."""

    frames: int = 0
    sessions: int = 0
    refused: int = 0
    errors: dict[str, int] = field(default_factory=dict)


class Surroundings(Struct):
    """What all connections of one exchange in this process share: its limits are an address's, not a connection's."""

    rest: RestClient
    connects: Window
    breaker: Breaker
    route: Route
    random: Random
    counts: Counts
    open_connections: int = 0


class Ended(Struct, frozen=True):
    """How a connection ended: close code (1006: without one), a reason, and the pause that the venue asked for at least."""

    code: int
    reason: str
    pause: float = 0.0


class NotConnectedError(Exception):
    """No connection came about. `is_refusal`: the venue has said so."""

    def __init__(self, ended: Ended, *, is_refusal: bool = False) -> None:
        super().__init__(ended.reason)
        self.ended = ended
        self.is_refusal = is_refusal


class Feed(WSListener):
    """Runs one adapter: connects, feeds it frames and ticks, does what it asks, and begins again whenever it ends.

    It is also the listener of its present socket. The library's own pings are off, and so are its answers to the server's,
    since it would keep those to itself: a ping is a sign of life, on many a quiet connection the only one.
    """

    __slots__ = (  # the library's class is no Python class, so that without them an attribute costs four times as much
        *("_address", "_around", "_backoff", "_budgets", "_ended", "_frames", "_has_outgoing", "_is_proven", "_log"),
        *("_opened_at", "_outgoing", "_parts", "_recorder", "_said", "_sending", "_transport"),
        *("adapter", "counts", "is_open", "put", "status"),
    )

    def __init__(
        self,
        adapter: ExchangeAdapter,
        around: Surroundings,
        put: Put,
        status: Callable[[Status], None],
        recorder: Recorder | None = None,
    ) -> None:
        self.adapter = adapter
        self.counts = around.counts
        self.is_open = False
        self._around = around
        self.put = put
        self.status = status
        self._recorder = recorder
        self._backoff = Backoff(around.random)
        limits = adapter.venue.limits
        self._budgets = [Window(rate) for rate in (limits.requests, limits.frames) if rate is not None]
        self._outgoing: deque[Send] = deque()
        self._has_outgoing = asyncio.Event()
        self._address: asyncio.Future[Connect] = asyncio.Future()
        self._ended: asyncio.Future[Ended] = asyncio.Future()
        self._transport: WSTransport | None = None
        self._frames: list[bytes] = []
        self._parts: list[bytes] = []
        self._opened_at = 0.0
        self._is_proven = False
        self._sending: asyncio.Task[None] | None = None
        self._said: dict[str, float] = {}
        self._log = log.bind(exchange=adapter.venue.name, markets=len(adapter.subscriptions))

    async def run(self) -> None:
        """Until cancelled: sessions, with pauses that grow while they do not hold."""
        try:
            while True:
                began = monotonic()
                ended = await self._session()
                lasted = monotonic() - began
                pause = min(ended.pause, LONGEST_PAUSE) + self._backoff.after_failure(lasted)
                details = {"code": ended.code, "reason": ended.reason, "lasted": round(lasted), "pause": round(pause, 1)}
                self._log.warning("connection ended; will connect again", **details)
                await asyncio.sleep(pause)
        finally:
            if self._recorder is not None:
                self._recorder.close()

    async def _session(self) -> Ended:
        """One connection from the first question to its end. Every end, also a clean one, is `lost` to the adapter."""
        await self._may_try()
        self._address, self._ended, self._is_proven = asyncio.Future(), asyncio.Future(), False
        ended = Ended(ABNORMAL, "stopped")
        transport: WSTransport | None = None
        try:
            self.do(self.adapter.start(monotonic()))
            asked = await self._asked_address()
            if asked is not None:
                transport = await self._connect(asked)
            ended = await self._ended
            return ended
        finally:
            self.end(ended)
            if self.is_open:
                self.is_open = False
                self._around.open_connections -= 1
            if self._sending is not None:
                self._sending.cancel()
            self._outgoing.clear()
            self._around.rest.forget(self)
            if not self._is_proven and not self._around.open_connections:
                self._around.breaker.failed(monotonic())
            self.do(self.adapter.lost(ended.code, ended.reason, monotonic()))
            if transport is not None:
                await _close(transport)

    async def _may_try(self) -> None:
        """Wait for the breaker."""
        around = self._around
        while around.breaker.delay(monotonic()) > 0:
            await asyncio.sleep(around.random.uniform(0.5, 1.5))

    async def _turn(self, window: Window, jitter: float, cost: float = 1.0) -> None:
        """Wait until the window lets `cost` be spent."""
        while (delay := window.delay(monotonic(), cost)) > 0:
            await asyncio.sleep(delay + self._around.random.uniform(0.0, jitter))

    async def _asked_address(self) -> Connect | None:
        """What the adapter wants to connect to, perhaps after fetches; None where the session ended before."""
        either: list[asyncio.Future[Any]] = [self._address, self._ended]
        await asyncio.wait(either, timeout=ADDRESS_WITHIN, return_when=asyncio.FIRST_COMPLETED)
        if not self._address.done():
            self.end(Ended(ABNORMAL, "no address to connect to in time"))
            return None
        return self._address.result()

    async def _connect(self, asked: Connect) -> WSTransport | None:
        connects = self._around.connects
        await self._turn(connects, 0.1)
        connects.begin()
        try:
            transport = await dial(self._around.route(asked.url), asked.headers, self)
        except NotConnectedError as error:
            self.counts.refused += error.is_refusal
            self.end(error.ended)
            return None
        finally:
            connects.end(monotonic())
        if self._recorder is not None:
            self._recorder.line("connect", None, url=asked.url)
        return transport

    # What the socket tells.

    def on_ws_connected(self, transport: WSTransport) -> None:
        """The handshake is done; the venue's first frames may be in the same read."""
        if self._ended.done():  # stopped while it shook hands
            transport.disconnect(graceful=False)
            return
        self.counts.sessions += 1
        self.is_open, self._opened_at = True, monotonic()
        self._transport = transport
        self._parts.clear()
        self._around.open_connections += 1
        self._sending = asyncio.create_task(self._send(transport))
        self.do(self.adapter.connected(self._opened_at))
        self._schedule_tick(self._ended)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.payload_size > _MOST_OF_CONTROL or frame.msg_type in _DATA:
            if frame.fin and not self._parts:
                self._frames.append(frame.get_payload_as_bytes())
            else:
                self._take_part(frame)
        else:
            self._obey(transport, frame)
        if frame.last_in_buffer:
            self._hand_over()

    def _take_part(self, frame: WSFrame) -> None:
        self._parts.append(frame.get_payload_as_bytes())
        if frame.fin:
            self._frames.append(b"".join(self._parts))
            self._parts.clear()

    def _obey(self, transport: WSTransport, frame: WSFrame) -> None:
        """A frame of the protocol itself."""
        if frame.msg_type is WSMsgType.CLOSE:
            code = frame.get_close_code()
            self.end(Ended(code.value, (frame.get_close_message() or b"").decode(errors="replace")))
            transport.send_close(code)
            transport.disconnect()
        else:
            if frame.msg_type is WSMsgType.PING:
                transport.send_pong(frame.get_payload_as_bytes())
            self.adapter.heard(time_ns() // 1000)

    def _hand_over(self) -> None:
        """All that one read brought goes to the adapter together, which costs a fifth less than one by one."""
        if not self._frames:
            return
        frames, self._frames = self._frames, []
        self.counts.frames += len(frames)
        if self._recorder is not None:
            for frame in frames:
                self._recorder.line("recv", frame)
        put = self.put
        for output in self.adapter.receive_all(frames, time_ns() // 1000):
            if type(output) in _EVENTS:
                put(output)  # type: ignore[arg-type]
            else:
                self._do(output)

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        if transport is self._transport:  # not the last breath of an earlier one
            self.end(Ended(ABNORMAL, "connection lost"))

    def end(self, ended: Ended) -> None:
        if not self._ended.done():
            self._ended.set_result(ended)

    # Time.

    def _schedule_tick(self, session: asyncio.Future[Ended]) -> None:
        asyncio.get_running_loop().call_later(self.adapter.tick_every, self._tick, session)

    def _tick(self, session: asyncio.Future[Ended]) -> None:
        if session.done():
            return
        now = monotonic()
        self.do(self.adapter.tick(now))
        if self._recorder is not None:
            self._recorder.flush()
        if not self._is_proven and now - self._opened_at >= PROVEN_AFTER:
            self._is_proven = True
            self._around.breaker.succeeded()
        self._schedule_tick(session)

    # What the adapter asks for.

    async def _send(self, transport: WSTransport) -> None:
        """Frames go out in order, paced inside the venue's message limit, until cancelled."""
        while True:
            while not self._outgoing:
                self._has_outgoing.clear()
                await self._has_outgoing.wait()
            send = self._outgoing.popleft()
            for budget in self._budgets:
                await self._turn(budget, 0.0, send.cost)
                budget.spend(monotonic(), send.cost)
            if self._recorder is not None:
                self._recorder.line("send", send.frame)
            if isinstance(send.frame, str):
                transport.send(WSMsgType.TEXT, send.frame.encode())
            else:
                transport.send(WSMsgType.BINARY, send.frame)

    def do(self, outputs: list[Output]) -> None:
        """Whatever an input to the adapter gave, in order."""
        for output in outputs:
            self._do(output)

    def _do(self, output: Output) -> None:
        match output:
            case AdapterError():
                self._count(output)
            case Send():
                self._outgoing.append(output)
                self._has_outgoing.set()
            case Fetch():
                self._around.rest.ask(output, self._replier(output), self)
            case Connect():
                if not self._address.done():
                    self._address.set_result(output)
            case Reconnect(overlap=True):
                self.adapter.ends_at = monotonic()
            case Reconnect():
                self.end(Ended(1000, output.reason, output.after))
            case Status():
                self._tell(output)
                self.status(output)
            case _:
                self.put(output)

    def _replier(self, fetch: Fetch) -> Reply:
        def reply(answer: Answer | FetchError) -> None:
            if self._recorder is not None and isinstance(answer, Answer):
                self._recorder.line("http", answer.body, url=fetch.request.url, status=answer.status)
            self.do(self.adapter.fetched(fetch.key, answer, monotonic()))

        return reply

    # What a person is told.

    def _count(self, error: AdapterError) -> None:
        kind = type(error).__name__
        self.counts.errors[kind] = self.counts.errors.get(kind, 0) + 1
        now = monotonic()
        if now - self._said.get(kind, -SAY_EVERY) >= SAY_EVERY:
            self._said[kind] = now
            self._log.warning("error", kind=kind, error=str(error)[:300], so_far=self.counts.errors[kind])

    def _tell(self, status: Status) -> None:
        say = self._log.warning if status.state in ("rejected", "recovering") else self._log.debug
        say(f"{status.scope} {status.state}", symbol=status.symbol, detail=status.detail)


async def dial(url: str, headers: Mapping[str, str], listener: WSListener) -> WSTransport:
    """A WebSocket whose handshake is done. Raises NotConnectedError."""
    try:
        async with asyncio.timeout(CONNECT_WITHIN):
            transport, opened = await ws_connect(
                lambda: listener,
                url,
                extra_headers=headers,
                enable_auto_pong=False,
                max_frame_size=MAX_FRAME,
                websocket_handshake_timeout=CONNECT_WITHIN,
                max_redirects=0,
            )
    except WSHandshakeError as error:
        raise NotConnectedError(_refusal(error), is_refusal=True) from error
    except (OSError, TimeoutError, WSError, ValueError) as error:  # the last: no address, as a venue's answer may name
        raise NotConnectedError(Ended(ABNORMAL, explain(error))) from error
    if opened is None:  # to the library, a connection that ends amid the handshake is one that was made
        raise NotConnectedError(Ended(ABNORMAL, explain(ConnectionResetError())))
    return transport


async def _close(transport: WSTransport) -> None:
    """Say goodbye, and do not wait long for the answer."""
    transport.send_close(WSCloseCode.OK)
    transport.disconnect()
    try:
        async with asyncio.timeout(CLOSE_WITHIN):
            await transport.wait_disconnected()
    except TimeoutError:
        transport.disconnect(graceful=False)
    except WSError:
        pass  # it ended because the venue broke the protocol, which the library has logged


def _refusal(error: WSHandshakeError) -> Ended:
    """Why a venue did not upgrade the connection, in words that say what can be done."""
    if error.response is None:
        return Ended(ABNORMAL, f"handshake failed: {error}")
    status = int(error.response.status)
    after = error.response.headers.get("Retry-After", "")
    reason = _REFUSALS.get(status, "the venue refuses the connection")
    return Ended(ABNORMAL, f"HTTP {status}: {reason}", float(after) if after.isdecimal() else 0.0)


def explain(error: BaseException) -> str:
    """Why a connection could not be made, in words that say what can be done."""
    match error:
        case gaierror():
            said = "the host's name cannot be resolved: is there a network, and a DNS server?"
        case ssl.SSLCertVerificationError():
            said = f"TLS: {error.verify_message}; is the clock right, or does a proxy break TLS (then set SSL_CERT_FILE)?"
        case ssl.SSLError():
            said = f"TLS: {error.reason or error}"
        case TimeoutError():
            said = f"no answer within {CONNECT_WITHIN:.0f} s: does a firewall drop the traffic?"
        case ConnectionResetError():
            said = "the host ended the connection before it answered: is it overloaded, or does a firewall between refuse?"
        case ConnectionRefusedError():
            said = "the host refuses the connection: nothing listens there, or a firewall says no"
        case ValueError():
            said = f"that is no address: {error}"
        case _:
            said = f"{type(error).__name__}: {error}"
    return said

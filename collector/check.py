"""`--check`: what the configuration would do, and with --live whether each venue can be reached, in words for a person."""

import asyncio
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime
from time import monotonic, time

import aiohttp
import msgspec
from msgspec import Struct
from picows import WSListener
from rich.table import Table

from adapters import registry
from adapters.effects import Answer, Connect, Fetch
from adapters.errors import AdapterError
from adapters.events import CHANNELS
from adapters.live import Output
from adapters.symbols import Instrument, fits, is_pattern, renamed
from collector.exchange import route_to
from collector.feed import CONNECT_WITHIN, NotConnectedError, dial, explain
from collector.plan import WorkerPlan
from collector.rest import Route
from collector.settings import Exchange, Settings

CLOCK_TOLERANCE = 5.0
"""Seconds by which our clock may differ from a venue's; its Date header has whole seconds."""


def plan_table(plans: list[WorkerPlan]) -> Table:
    """Exchange (and which part of how many), channel, connections, pairs on each, worker."""
    table = Table(title="plan", title_justify="left")
    for heading in ("exchange", "channel", "connections", "pairs", "pairs on each", "worker"):
        table.add_column(heading, justify="left" if heading in ("exchange", "channel", "worker") else "right")
    for worker in plans:
        for part in worker.exchanges:
            whose = part.name if part.parts == 1 else f"{part.name} {part.part}/{part.parts}"
            for channel in CHANNELS:
                sizes = [len(chunk.symbols) for chunk in part.chunks if chunk.channel == channel]
                if sizes:
                    connections = f"{part.redundancy} x {len(sizes)}" if part.redundancy > 1 else str(len(sizes))
                    row = (whose, channel, connections, sum(sizes), _run_lengths(sizes), worker.name)
                    table.add_row(*map(str, row))
                for each in part.patterns:
                    if each.channel == channel:
                        most = f"at most {part.size(channel)}"
                        table.add_row(whose, channel, "as listed", each.pattern, most, worker.name)
    return table


def _run_lengths(sizes: list[int]) -> str:
    """`10 10 10 4` as `3 x 10, 4`."""
    runs: list[tuple[int, int]] = []
    for size in sizes:
        if runs and runs[-1][1] == size:
            runs[-1] = (runs[-1][0] + 1, size)
        else:
            runs.append((1, size))
    return ", ".join(str(size) if count == 1 else f"{count} x {size}" for count, size in runs)


class VenueError(Exception):
    """A venue does not tell its markets; in words for a person."""


async def markets(name: str, simulator: str | None) -> list[Instrument]:
    """What a venue lists now, by symbol. Raises UnknownExchangeError and VenueError."""
    adapter = registry.adapter(name)
    request = adapter.instruments_request().request
    timeout = aiohttp.ClientTimeout(total=CONNECT_WITHIN)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session:
            url = route_to(simulator)(request.url)
            async with session.request(request.method, url, headers=request.headers) as response:
                body = await response.read()
                if response.status >= 400:
                    raise VenueError(f"{name}: HTTP {response.status}: {body[:120].decode(errors='replace')}")
        return sorted(adapter.parse_instruments(body), key=lambda each: each.symbol)
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise VenueError(f"{name}: {explain(error.__cause__ or error)}") from error
    except (AdapterError, msgspec.MsgspecError) as error:
        raise VenueError(f"{name}: answers something else than a list of markets: {error}") from error


def markets_table(name: str, listed: list[Instrument]) -> Table:
    """Symbol, the venue's own name, state, price and amount steps."""
    trading = sum(each.active for each in listed)
    table = Table(title=f"{name}: {len(listed):,} markets, {trading:,} trading", title_justify="left")
    for heading in ("symbol", "native", "state", "price step", "amount step"):
        table.add_column(heading, justify="right" if "step" in heading else "left")
    for each in listed:
        style = "" if each.active else "dim"
        table.add_row(each.symbol, each.native, each.state, each.price_step or "", each.amount_step or "", style=style)
    return table


class Finding(Struct):
    """One exchange: what is wrong (nothing: all is well), and what was seen."""

    name: str
    wrong: list[str]
    seen: list[str]


async def findings(settings: Settings, simulator: str | None) -> AsyncIterator[Finding]:
    """Try each venue: its REST, its clock, its list of markets, its WebSocket."""
    route = route_to(simulator)
    timeout = aiohttp.ClientTimeout(total=CONNECT_WITHIN)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        tries = [asyncio.create_task(_Try(exchange, session, route).run()) for exchange in settings.enabled]
        for each in asyncio.as_completed(tries):
            yield await each


class _Try:
    """One attempt at one exchange."""

    def __init__(self, exchange: Exchange, session: aiohttp.ClientSession, route: Route) -> None:
        self._exchange = exchange
        self._session = session
        self._route = route
        self._adapter = registry.adapter(exchange.name)([])
        self._finding = Finding(exchange.name, [], [])

    async def run(self) -> Finding:
        await self._list_markets()
        await self._open_socket()
        return self._finding

    async def _fetch(self, fetch: Fetch) -> Answer:
        """Raises aiohttp.ClientError, OSError, TimeoutError."""
        request = fetch.request
        began = monotonic()
        async with self._session.request(request.method, self._route(request.url), headers=request.headers) as response:
            body = await response.read()
            if response.status >= 400:
                self._finding.wrong.append(f"REST answers HTTP {response.status}: {body[:120].decode(errors='replace')}")
            elif "Date" in response.headers:
                self._compare_clocks(response.headers["Date"])
            self._finding.seen.append(f"REST in {(monotonic() - began) * 1000:.0f} ms")
            return Answer(response.status, body, 0)

    def _compare_clocks(self, date: str) -> None:
        ahead = time() - parsedate_to_datetime(date).timestamp()
        if abs(ahead) > CLOCK_TOLERANCE:
            self._finding.wrong.append(
                f"our clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} the venue's: set it (NTP)"
            )

    async def _list_markets(self) -> None:
        try:
            answer = await self._fetch(self._adapter.instruments_request())
            if answer.status >= 400:
                return
            markets = {each.symbol: each for each in self._adapter.parse_instruments(answer.body)}
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._finding.wrong.append(f"REST: {explain(error.__cause__ or error)}")
        except (AdapterError, msgspec.MsgspecError) as error:
            self._finding.wrong.append(f"REST answers something else than a list of markets: {error}")
        else:
            self._finding.seen.append(f"{len(markets):,} markets")
            for wanted in sorted({each for channel in CHANNELS for each in self._exchange.pairs.of(channel)}):
                self._look_up(wanted, markets)

    def _look_up(self, wanted: str, markets: dict[str, Instrument]) -> None:
        """A pair, or a pattern, in the venue's list of markets."""
        if is_pattern(wanted):
            count = sum(each.active and fits(each.symbol, wanted) for each in markets.values())
            (self._finding.seen if count else self._finding.wrong).append(f"{wanted}: {count:,} markets")
            return
        theirs = renamed(wanted, self._exchange.aliases)
        if theirs not in markets:
            self._finding.wrong.append(f"{theirs} is not listed")
        elif not markets[theirs].active:
            self._finding.wrong.append(f"{theirs} is not trading now ({markets[theirs].state})")

    async def _open_socket(self) -> None:
        try:
            connect = await self._address()
            if connect is None:
                return
            began = monotonic()
            transport = await dial(self._exchange.url or self._route(connect.url), connect.headers, WSListener())
            transport.disconnect()
            self._finding.seen.append(f"WebSocket in {(monotonic() - began) * 1000:.0f} ms")
        except NotConnectedError as error:
            self._finding.wrong.append(f"WebSocket: {error}")
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            self._finding.wrong.append(f"WebSocket: {explain(error.__cause__ or error)}")

    async def _address(self) -> Connect | None:
        """What the adapter wants to connect to, with the fetches that it needs for that."""
        outputs: list[Output] = self._adapter.start(monotonic())
        while outputs:
            output = outputs.pop(0)
            if isinstance(output, Connect):
                return output
            if isinstance(output, Fetch):
                outputs += self._adapter.fetched(output.key, await self._fetch(output), monotonic())
            elif isinstance(output, AdapterError):
                self._finding.wrong.append(f"WebSocket: no address to connect to: {output}")
        return None

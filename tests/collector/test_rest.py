"""REST of a venue: the urgent first, inside the limit, obedient to Retry-After, and every failure one kind of error."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from time import monotonic

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from adapters.effects import Answer, Fetch, Priority, Request
from adapters.errors import FetchError
from adapters.venue import Limits, Rate
from collector import rest
from collector.rest import AT_ONCE, RestClient
from tests.hearing import events, logs
from tests.waiting import until

PLENTY = Rate(1_000_000, 1.0)


def limits(weight: Rate = PLENTY) -> Limits:
    return Limits(connects=PLENTY, frames=PLENTY, weight=weight, topics_per_connection=1, topics_per_frame=1)


class Venue:
    """Answers whatever is asked, in the order and at the time that a test wants."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.at: list[float] = []
        self.open = asyncio.Event()
        self.open.set()
        self.at_once = 0
        self.most_at_once = 0
        self.answer: Callable[[web.Request], Awaitable[web.StreamResponse]] | None = None

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path_qs.removeprefix("/"))
        self.at.append(monotonic())
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.open.wait()
            return await self.answer(request) if self.answer else web.Response(text=f"{request.method} {request.path}")
        finally:
            self.at_once -= 1


class Client:
    """A RestClient that runs, and the answers it gave."""

    def __init__(self, client: RestClient, base: str) -> None:
        self.rest = client
        self.base = base
        self.answers: list[tuple[str, Answer | FetchError]] = []
        self.asker = object()

    def ask(
        self, path: str, *, weight: int = 1, priority: Priority = Priority.FIRST, asker: object = None, note: str = ""
    ) -> None:
        fetch = Fetch((path,), Request(f"{self.base}/{path}"), weight, priority)
        self.rest.ask(fetch, lambda answer: self.answers.append((note or path, answer)), asker or self.asker)

    async def answered(self, count: int) -> list[tuple[str, Answer | FetchError]]:
        await until(lambda: len(self.answers) >= count, f"{count} answers")
        return self.answers

    async def fetch(self, path: str, **request: object) -> Answer:
        return await self.rest.fetch(Fetch((path,), Request(f"{self.base}/{path}", **request)))  # type: ignore[arg-type]


@asynccontextmanager
async def client(venue: Venue, *, weight: Rate = PLENTY, route: str = "") -> AsyncIterator[Client]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", venue.handle)
    async with TestServer(app) as server, aiohttp.ClientSession() as session:
        base = f"http://127.0.0.1:{server.port}"
        to = (lambda url: url.replace("http://venue", base)) if route else (lambda url: url)
        one = Client(RestClient(session, limits(weight), to), route or base)
        running = asyncio.create_task(one.rest.run())
        try:
            yield one
        finally:
            venue.open.set()
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def texts(answers: list[tuple[str, Answer | FetchError]]) -> list[str]:
    return [answer.body.decode() for _, answer in answers if isinstance(answer, Answer)]


class TestAnswers:
    async def test_status_body_and_when_it_came(self) -> None:
        async with client(Venue()) as one:
            answer = await one.fetch("depth?symbol=X")
        assert (answer.status, answer.body) == (200, b"GET /depth")
        assert answer.received > 1_700_000_000_000_000

    async def test_method_and_headers_are_the_adapter_s(self) -> None:
        venue = Venue()

        async def show(request: web.Request) -> web.Response:
            return web.Response(text=f"{request.method} {request.headers['X-Key']}")

        venue.answer = show
        async with client(venue) as one:
            answer = await one.fetch("token", method="POST", headers={"X-Key": "k"})
        assert answer.body == b"POST k"

    async def test_addresses_go_through_the_route(self) -> None:
        async with client(Venue(), route="http://venue") as one:
            assert (await one.fetch("depth")).body == b"GET /depth"


class TestOrder:
    async def test_the_urgent_before_the_rest_and_equals_in_their_order(self) -> None:
        venue = Venue()
        venue.open.clear()
        async with client(venue) as one:
            for number in range(AT_ONCE):
                one.ask(f"before-{number}")
            await until(lambda: len(venue.asked) == AT_ONCE)
            for path, priority in (
                ("backfill-1", Priority.BACKFILL),
                ("first-1", Priority.FIRST),
                ("resync-1", Priority.RESYNC),
                ("first-2", Priority.FIRST),
                ("resync-2", Priority.RESYNC),
            ):
                one.ask(path, priority=priority)
            venue.open.set()
            await one.answered(AT_ONCE + 5)
        after = venue.asked[AT_ONCE:]
        assert sorted(after) == ["backfill-1", "first-1", "first-2", "resync-1", "resync-2"]
        assert set(after[:4]) == {"resync-1", "resync-2", "first-1", "first-2"}, "four at once; the least urgent is the fifth"

    async def test_one_at_a_time_where_the_limit_is_the_order(self) -> None:
        venue = Venue()
        async with client(venue, weight=Rate(1, 0.02)) as one:
            one.ask("taken")
            await until(lambda: venue.asked)
            for path, priority in (("c", Priority.BACKFILL), ("b", Priority.FIRST), ("a", Priority.RESYNC)):
                one.ask(path, priority=priority)
            await one.answered(4)
        assert venue.asked == ["taken", "a", "b", "c"]

    async def test_no_more_than_a_few_at_once(self) -> None:
        venue = Venue()
        venue.open.clear()
        async with client(venue) as one:
            for number in range(20):
                one.ask(f"{number}")
            await until(lambda: len(venue.asked) == AT_ONCE)
            await asyncio.sleep(0.05)
            assert len(venue.asked) == AT_ONCE
            venue.open.set()
            await one.answered(20)
        assert venue.most_at_once == AT_ONCE


class TestPace:
    async def test_never_more_weight_than_the_window_holds(self) -> None:
        venue = Venue()
        async with client(venue, weight=Rate(10, 0.2)) as one:
            for number in range(12):
                one.ask(f"{number}", weight=3)
            await one.answered(12)
        for start in venue.at:
            assert sum(3 for at in venue.at if start <= at < start + 0.15) <= 10

    async def test_what_cannot_be_spent_now_is_spent_later(self) -> None:
        venue = Venue()
        async with client(venue, weight=Rate(2, 0.1)) as one:
            began = monotonic()
            one.ask("a", weight=1)
            one.ask("b", weight=50)
            await one.answered(2)
        assert venue.at[1] - began >= 0.1

    async def test_past_trades_leave_weight_for_a_book_which_does_not_wait_for_them(self) -> None:
        venue = Venue()
        async with client(venue, weight=Rate(100, 600.0)) as one:
            for number in range(10):
                one.ask(f"past{number}", weight=15, priority=Priority.BACKFILL)
            await one.answered(4)
            await asyncio.sleep(0)
            one.ask("book", weight=20, priority=Priority.RESYNC)
            await until(lambda: "book" in venue.asked, "the book, long before the window is over")
        assert [each for each in venue.asked if each != "book"] == ["past0", "past1", "past2", "past3"]


class TestRefusals:
    async def test_retry_after_stops_everything_for_so_long(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rest, "LONGEST_BLOCK", 0.2)
        venue = Venue()

        async def busy(_: web.Request) -> web.Response:
            if len(venue.asked) == 1:
                return web.Response(status=429, headers={"Retry-After": "7200"}, text="slow down")
            return web.Response(text="ok")

        venue.answer = busy
        with logs() as said:
            async with client(venue) as one:
                one.ask("a")
                (_, refused), *_ = await one.answered(1)
                one.ask("b")
                await one.answered(2)
                assert one.rest.refused == 1
        assert isinstance(refused, FetchError)
        assert "HTTP 429 slow down" in str(refused)
        assert 0.2 <= venue.at[1] - venue.at[0] < 1.0, "two hours, but never longer than we are willing to wait"
        assert events(said) == ["the venue asks for a pause"]

    @pytest.mark.parametrize("after", [None, "soon", "Wed, 21 Oct 2026 07:28:00 GMT", "-5"])
    async def test_without_a_number_it_is_our_own_pause(self, monkeypatch: pytest.MonkeyPatch, after: str | None) -> None:
        monkeypatch.setattr(rest, "_DEFAULT_BLOCK", 0.1)
        venue = Venue()

        async def banned(_: web.Request) -> web.Response:
            headers = {} if after is None else {"Retry-After": after}
            return web.Response(status=418, headers=headers) if len(venue.asked) == 1 else web.Response()

        venue.answer = banned
        async with client(venue) as one:
            one.ask("a")
            await one.answered(1)
            one.ask("b")
            await one.answered(2)
        assert 0.1 <= venue.at[1] - venue.at[0] < 1.0

    @pytest.mark.parametrize("status", [400, 403, 404, 500, 503])
    async def test_other_errors_stop_nobody_else(self, status: int) -> None:
        venue = Venue()

        async def wrong(request: web.Request) -> web.Response:
            return web.Response(status=status, text="x" * 500) if request.path == "/a" else web.Response(text="ok")

        venue.answer = wrong
        async with client(venue) as one:
            with pytest.raises(FetchError, match=f"/a: HTTP {status} xxx") as caught:
                await one.fetch("a")
            assert len(str(caught.value)) < 250
            assert (await one.fetch("b")).body == b"ok"
            assert one.rest.refused == 0

    @pytest.mark.parametrize("location", ["", "http://" + "a" * 300 + "/", "http://[::1", "ftp://elsewhere.example/"])
    async def test_who_sends_us_nowhere_stops_nobody_else(self, location: str) -> None:
        venue = Venue()

        async def onward(request: web.Request) -> web.Response:
            away = web.Response(status=302, headers={"Location": location})
            return away if request.path == "/a" else web.Response(text="ok")

        venue.answer = onward
        async with client(venue) as one:
            with pytest.raises(FetchError):
                await one.fetch("a")
            assert (await one.fetch("b")).body == b"ok"

    async def test_nobody_there(self) -> None:
        async with client(Venue()) as one:
            one.base = "http://127.0.0.1:1"
            with pytest.raises(FetchError, match=r"http://127\.0\.0\.1:1/a: ClientConnectorError"):
                await one.fetch("a")

    async def test_no_address_at_all(self) -> None:
        async with client(Venue()) as one:
            one.base = "nonsense"
            with pytest.raises(FetchError, match="nonsense/a"):
                await one.fetch("a")

    async def test_no_answer_in_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(rest, "TIMEOUT", 0.05)
        venue = Venue()
        venue.open.clear()
        async with client(venue) as one:
            with pytest.raises(FetchError, match="TimeoutError"):
                await one.fetch("a")

    async def test_a_connection_that_breaks_in_the_middle(self) -> None:
        venue = Venue()

        async def half(request: web.Request) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Length": "1000"})
            await response.prepare(request)
            await response.write(b"half")
            assert request.transport is not None
            request.transport.abort()
            return response

        venue.answer = half
        async with client(venue) as one:
            with pytest.raises(FetchError, match="/a: Client"):
                await one.fetch("a")

    @pytest.mark.parametrize("announced", [True, False])
    async def test_an_answer_without_end(self, monkeypatch: pytest.MonkeyPatch, announced: bool) -> None:
        monkeypatch.setattr(rest, "MAX_BODY", 10_000)
        venue = Venue()

        async def large(request: web.Request) -> web.StreamResponse:
            if announced:
                return web.Response(body=b"x" * 20_000)
            response = web.StreamResponse()
            response.enable_chunked_encoding()
            await response.prepare(request)
            for _ in range(20):
                await response.write(b"x" * 1000)
            return response

        venue.answer = large
        async with client(venue) as one:
            with pytest.raises(FetchError, match="an answer of "):
                await one.fetch("a")


class TestAskers:
    async def test_the_same_question_by_the_same_asker_is_asked_once(self) -> None:
        venue = Venue()
        venue.open.clear()
        async with client(venue) as one:
            for _ in range(3):
                one.ask("a")
            await until(lambda: venue.asked)
            one.ask("a")
            venue.open.set()
            await one.answered(1)
            await asyncio.sleep(0.05)
            assert len(one.answers) == 1
            one.ask("a")
            await one.answered(2)
        assert venue.asked == ["a", "a"], "again, once it was answered"

    async def test_by_others_it_is_another(self) -> None:
        venue = Venue()
        async with client(venue) as one:
            for asker in (object(), object()):
                one.ask("a", asker=asker)
            await one.answered(2)
        assert venue.asked == ["a", "a"]

    async def test_what_a_forgotten_asker_waits_for_is_not_asked(self) -> None:
        venue = Venue()
        async with client(venue, weight=Rate(1, 0.1)) as one:
            gone, stays = object(), object()
            one.ask("a", asker=stays)
            await until(lambda: venue.asked)
            one.ask("b", asker=gone)
            one.ask("c", asker=stays)
            one.rest.forget(gone)
            await one.answered(2)
        assert venue.asked == ["a", "c"]

    async def test_a_forgotten_asker_hears_nothing_any_more(self) -> None:
        venue = Venue()
        venue.open.clear()
        async with client(venue) as one:
            one.ask("a")
            await until(lambda: venue.asked)
            one.rest.forget(one.asker)
            venue.open.set()
            one.ask("b", asker=object())
            await one.answered(1)
            await until(lambda: venue.at_once == 0)
            assert [path for path, _ in one.answers] == ["b"]

    async def test_who_asks_again_after_that_hears_the_new_answer_and_not_the_old(self) -> None:
        """A connection that was lost and is back must not take the snapshot that its former life asked for."""
        venue = Venue()
        slow = asyncio.Event()

        async def each_its_own(_: web.Request) -> web.Response:
            number = len(venue.asked)
            if number == 1:
                await slow.wait()
            return web.Response(text=f"answer {number}")

        venue.answer = each_its_own
        async with client(venue) as one:
            one.ask("a", note="old")
            await until(lambda: venue.asked)
            one.rest.forget(one.asker)
            one.ask("a", note="new")
            await until(lambda: len(venue.asked) == 2)
            slow.set()
            await one.answered(1)
            await until(lambda: venue.at_once == 0)
            await asyncio.sleep(0.02)
        assert [(note, answer.body) for note, answer in one.answers if isinstance(answer, Answer)] == [("new", b"answer 2")]

    async def test_an_old_answer_that_comes_first_is_not_the_new_one(self) -> None:
        venue = Venue()
        old, new = asyncio.Event(), asyncio.Event()

        async def each_its_own(_: web.Request) -> web.Response:
            number = len(venue.asked)
            await (old if number == 1 else new).wait()
            return web.Response(text=f"answer {number}")

        venue.answer = each_its_own
        async with client(venue) as one:
            one.ask("a", note="old")
            await until(lambda: venue.asked)
            one.rest.forget(one.asker)
            one.ask("a", note="new")
            await until(lambda: len(venue.asked) == 2)
            old.set()
            await until(lambda: venue.at_once == 1)
            await asyncio.sleep(0.02)
            assert one.answers == []
            new.set()
            await one.answered(1)
        assert texts(one.answers) == ["answer 2"]

    async def test_a_fetch_that_is_awaited_can_be_given_up(self) -> None:
        venue = Venue()
        venue.open.clear()
        async with client(venue) as one:
            waiting = asyncio.create_task(one.fetch("a"))
            await until(lambda: venue.asked)
            waiting.cancel()
            venue.open.set()
            assert (await one.fetch("b")).status == 200

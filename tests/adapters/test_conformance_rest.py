"""Every adapter's reading of REST answers, of a recording, and the facts of its venue."""

from collections.abc import Iterator
from random import Random
from typing import Any

import msgspec
import orjson
import pytest

from adapters.decode import Line, RawHandler, Symbols, decode_raw, identify
from adapters.effects import Answer, Fetch
from adapters.errors import AdapterError, FetchError
from adapters.events import CHANNELS, Trade
from tests.adapters.conformance import World, written, wrong_values
from tests.adapters.dialect import BEGAN, Dialect
from tests.adapters.dialects import every_dialect
from tests.adapters.imaginary_wire import Made

PATIENCE = 120.0


def read_answer(speaker: Dialect, key: tuple[str, ...], body: bytes) -> list[dict[str, Any]]:
    """What one answer says. Raises what the contract allows."""
    if key == ("instruments",):
        return [msgspec.to_builtins(each) for each in speaker.adapter.parse_instruments(body)]
    say = RawHandler(speaker.name, Symbols(speaker.adapter, {}))
    speaker.adapter.parse_answer(key, body, say)
    return say.events


ALLOWED = (AdapterError, msgspec.MsgspecError, orjson.JSONDecodeError, UnicodeDecodeError)


def answers(dialect: type[Dialect]) -> Iterator[tuple[Dialect, tuple[str, ...], bytes]]:
    speaker = dialect(Random(1))
    return ((speaker, key, orjson.dumps(answer)) for key, answer in speaker.answers().items())


@every_dialect
def test_every_answer_is_read_and_known_by_its_shape(dialect: type[Dialect]) -> None:
    for speaker, key, body in answers(dialect):
        assert read_answer(speaker, key, body) or key[0] in ("token", "time"), key
        assert speaker.adapter.shape(orjson.loads(body)) == key[0]
        assert key[0] in {kind for kind, _ in speaker.adapter.endpoints.values()}
        for path, (kind, parameter) in speaker.adapter.endpoints.items():
            if kind == key[0]:
                url = speaker.adapter.venue.rest + path.format(key[-1]) + (f"?{parameter}={key[-1]}" if parameter else "")
                assert identify(speaker.adapter, Line("http", None, url, 200, body.decode())) == key


@every_dialect
def test_what_is_asked_of_rest_is_known_by_its_url(dialect: type[Dialect]) -> None:
    world = World(dialect, 1)
    world.run(30)
    fetches = [*world.told(Fetch), world.adapter.instruments_request()]
    for fetch in fetches:
        assert identify(world.dialect.adapter, Line("http", None, fetch.request.url, 200, "{}")) == fetch.key
        assert 0 < fetch.weight <= world.adapter.venue.limits.weight.count


@every_dialect
def test_an_answer_that_is_cut_or_empty_is_refused(dialect: type[Dialect]) -> None:
    for speaker, key, body in answers(dialect):
        for length in range(len(body)):
            with pytest.raises(ALLOWED):
                read_answer(speaker, key, body[:length])


@every_dialect
def test_an_answer_with_values_of_any_wrong_kind_is_read_or_refused(dialect: type[Dialect]) -> None:
    refused = 0
    for speaker, key, body in answers(dialect):
        for wrong in wrong_values(orjson.loads(body)):
            try:
                orjson.dumps(read_answer(speaker, key, written(wrong())))
            except ALLOWED:
                refused += 1
    assert refused > 100


@every_dialect
def test_the_venue_s_own_complaints_are_refused_in_its_words(dialect: type[Dialect]) -> None:
    for speaker, key, _ in answers(dialect):
        for problem in speaker.problems():
            with pytest.raises(FetchError) as caught:
                read_answer(speaker, key, orjson.dumps(problem))
            assert any(str(word) in str(caught.value) for word in texts_in(problem)), caught.value


def texts_in(value: Any) -> list[str]:
    if isinstance(value, dict | list):
        return [text for each in (value.values() if isinstance(value, dict) else value) for text in texts_in(each)]
    return [value] if isinstance(value, str) and not value.isdecimal() else []


@every_dialect
@pytest.mark.parametrize("body", [b"", b"null", b"7", b"<html><body>502 Bad Gateway</body></html>", b"\xff"])
def test_what_is_no_answer_at_all_is_refused(dialect: type[Dialect], body: bytes) -> None:
    for speaker, key, _ in answers(dialect):
        with pytest.raises(ALLOWED):
            read_answer(speaker, key, body)


@every_dialect
def test_a_book_comes_back_whatever_rest_answered_before(dialect: type[Dialect]) -> None:
    bodies = [body for _, key, body in answers(dialect) if key[0] == "book"]
    if not bodies:
        assert dialect.on_socket
        return
    world = World(dialect, 9, truthful=False)
    world.run(10)
    for wrong in wrong_values(orjson.loads(bodies[0])):
        for native in world.dialect.markets:
            world.take(world.adapter.fetched(("book", native), Answer(200, written(wrong()), world.micros), world.now))
        world.run(1)
    world.lose()
    world.recover(PATIENCE)


# Recordings ---------------------------------------------------------------------------------------------------------------


@every_dialect
def test_a_recording_of_it_decodes_to_the_same_trades(dialect: type[Dialect]) -> None:
    world = World(dialect, 6)
    world.run(60)
    lines = [Line("recv", BEGAN / 1e6, None, None, None, frame) for frame in world.arrived]
    decoded = [event for each in decode_raw(world.dialect.adapter, lines) for event in each.events]
    ids = [(event["symbol"], event["id"]) for event in decoded if event["type"] == "trade" and "snapshot" not in event]
    assert ids == [(trade.symbol, trade.id) for trade in world.told(Trade)]
    assert {event["exchange"] for event in decoded} == {world.adapter.venue.name}


# The facts ----------------------------------------------------------------------------------------------------------------


@every_dialect
def test_the_facts_of_a_venue_agree_with_each_other(dialect: type[Dialect]) -> None:
    venue = dialect(Random(0)).adapter.venue
    assert venue.name == dialect.name
    assert venue.websocket.startswith("wss://")
    assert venue.rest.startswith("https://")
    assert not venue.rest.endswith("/")
    assert list(venue.depths) == sorted(set(venue.depths))
    assert all(0 < count <= venue.limits.topics_per_connection for count in venue.per_connection.values())
    assert venue.per_connection.keys() == set(CHANNELS)
    assert venue.limits.topics_per_frame <= venue.limits.topics_per_connection
    assert venue.keepalive.ping is None or venue.keepalive.ping < venue.keepalive.silence
    assert venue.lifetime is None or venue.lifetime > venue.keepalive.silence
    assert venue.ack_within > 0
    assert all(link.startswith("https://") for link in venue.documentation)
    assert bool(venue.documentation) == (dialect is not Made)
    assert all(fact.endswith(".") for fact in venue.evidence)
    assert venue.book.checksum is None or venue.book.source == "socket"

"""Recorded traffic decoded: each frame for itself (`--raw`), or through the whole adapter; and the command line."""

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters import registry
from adapters.__main__ import main
from adapters.adapter import ExchangeAdapter
from adapters.book import BookRule
from adapters.decode import Decoded, Line, decode, decode_raw, identify, read
from adapters.errors import AdapterError, FrameError
from tests.adapters.puppet import Call, Puppet, change, puppet, snapshot, ticker, trade

ROOT = Path(__file__).parents[2]
BEGAN = 1_700_000_000.0
URL = "https://puppet.example/book?market=BTCUSDT"
WINDOW = puppet(book=BookRule(chain="previous", source="socket", truncates=True), depths=(2, 10, 100))


def recv(*calls: Call, ts: float | None = BEGAN) -> Line:
    return Line("recv", ts, raw=orjson.dumps(calls).decode())


def http(call: Call | str, url: str | None = URL, ts: float | None = BEGAN) -> Line:
    body = (
        call
        if isinstance(call, str)
        else orjson.dumps({name: said for name, said in call[1].items() if name != "native"}).decode()
    )
    return Line("http", ts, url, 200, body)


def whole(*lines: Line, adapter: type[ExchangeAdapter] = Puppet, depth: int = 10) -> list[Decoded]:
    return list(decode(adapter, list(lines), depth))


def single(*lines: Line, adapter: type[ExchangeAdapter] = Puppet) -> list[Decoded]:
    return list(decode_raw(adapter, list(lines)))


def of_kind(decoded: list[Decoded], kind: str) -> list[dict[str, Any]]:
    return [event for each in decoded for event in each.events if event["type"] == kind]


# Lines -------------------------------------------------------------------------------------------------------------------


class TestLines:
    def test_a_line_is_text_or_the_bytes_of_a_binary_frame(self) -> None:
        text, binary = read(['{"kind":"recv","raw":"{\\"a\\": 1.50}"}', '{"kind":"recv","b64":"H4sA"}'])
        assert text.data == b'{"a": 1.50}'
        assert binary.data == b"\x1f\x8b\x00"

    def test_a_time_is_microseconds_and_may_be_missing(self) -> None:
        with_time, without = read(['{"kind":"recv","ts":1700000000.000001,"raw":""}', '{"kind":"recv","ts":null,"raw":""}'])
        assert (with_time.received, without.received) == (1_700_000_000_000_001, None)

    @pytest.mark.parametrize(
        "bad", ["", "x", "[]", "{}", '{"kind":7}', '{"kind":"recv","b64":"%%%"}', '{"kind":"recv","b64":"A"}']
    )
    def test_what_is_no_line_is_refused_by_its_number(self, bad: str) -> None:
        with pytest.raises(FrameError, match=r"^line 2: "):
            read(['{"kind":"recv","raw":""}', bad])

    def test_keys_that_are_not_ours_are_passed_over(self) -> None:
        assert read(['{"kind":"send","opcode":1,"raw":"x"}'])[0].kind == "send"


# Each frame for itself ---------------------------------------------------------------------------------------------------


class TestRaw:
    def test_a_frame_says_what_it_says_without_any_state(self) -> None:
        (decoded,) = single(
            recv(trade(7, market="SOLUSDT", price="1e2"), change(5, 6, market="SOLUSDT", bids=[["99", "0.00"]]))
        )
        told, changed = decoded.events
        assert decoded.line == 1
        assert (told["symbol"], told["native"], told["id"], told["price"]) == ("SOL/USDT", "SOLUSDT", "7", "100")
        assert (changed["type"], changed["bids"], changed["sequence"]) == ("book_delta", [("99", "0")], 6)

    def test_a_snapshot_is_a_book_whichever_way_it_comes(self) -> None:
        decoded = single(recv(snapshot(4)), http(snapshot(5)))
        assert [(event["sequence"], event["native"]) for event in of_kind(decoded, "book")] == [(4, "BTCUSDT"), (5, "BTCUSDT")]

    def test_a_past_trade_is_marked(self) -> None:
        name, said = trade(7)
        (event,) = single(recv(("past_trade", said)))[0].events
        assert name == event["type"]
        assert event["snapshot"] is True

    def test_a_ticker_has_every_field(self) -> None:
        (event,) = single(recv(ticker(bid="1", last="")))[0].events
        assert (event["bid"], event["last"], event["ask"]) == ("1", None, None)

    def test_a_name_that_no_rule_cuts_has_no_symbol(self) -> None:
        (event,) = single(recv(trade(7, market="?")))[0].events
        assert (event["symbol"], event["native"]) == (None, "?")

    def test_a_frame_that_cannot_be_read_is_an_error_of_its_line_and_hides_no_other(self) -> None:
        decoded = single(
            recv(trade(1)), Line("recv", raw="{"), recv(trade(2), ("broken", {})), Line("recv", b64=b"\xff"), recv(trade(3))
        )
        counts = [(each.line, len(each.events), len(each.errors)) for each in decoded]
        assert counts == [(1, 1, 0), (2, 0, 1), (3, 1, 1), (4, 0, 1), (5, 1, 0)]

    def test_refusals_and_missed_messages_are_errors(self) -> None:
        refused, missed = single(recv(("refused", {"reason": "no such pair"})), recv(("missed", {"first": 3, "last": 5})))
        assert (refused.errors, missed.errors) == (["refused: no such pair"], ["missed: messages 3 to 5"])

    def test_what_was_sent_is_passed_over(self) -> None:
        assert single(Line("send", raw="{"), Line("connect", url="wss://x")) == []


class TestAnswers:
    def test_an_answer_is_known_by_its_url(self) -> None:
        assert identify(Puppet, http(snapshot(5))) == ("book", "BTCUSDT")
        assert identify(Puppet, http(snapshot(5), "https://puppet.example/v2/book")) == ("book", "")
        assert identify(Puppet, http(snapshot(5), "https://puppet.example/candles")) is None

    @pytest.mark.parametrize("path", ["/v2/books/btcusd", "/v2/books/btcusd/", "/v2/books/btcusd/?group=1"])
    def test_a_market_may_be_named_in_the_path(self, path: str) -> None:
        class Pathed(Puppet):
            endpoints: ClassVar = {"/books/{}/": ("book", None), "/books": ("instruments", None)}

        assert identify(Pathed, http(snapshot(5), f"https://puppet.example{path}")) == ("book", "btcusd")
        assert identify(Pathed, http(snapshot(5), "https://puppet.example/v2/books/")) == ("instruments",)
        assert identify(Pathed, http(snapshot(5), "https://puppet.example/books/btcusd/orders")) is None
        assert identify(Pathed, http(snapshot(5), None)) == ("book", "")

    def test_an_answer_without_a_url_is_known_by_its_shape(self) -> None:
        assert identify(Puppet, http(snapshot(5), None)) == ("book", "")
        assert identify(Puppet, http("[]", None)) is None
        assert identify(Puppet, http("<html>", None)) is None

    def test_an_instrument_list_names_the_markets_and_a_broken_one_hides_nothing(self) -> None:
        class Listing(Puppet):
            endpoints = Puppet.endpoints | {"/markets": ("instruments", None)}

        row = {"symbol": "DOGE/USDT", "native": "XDG", "active": True, "state": "on"}
        markets = http(json.dumps([row]), "https://puppet.example/markets")
        broken = http('{"error":', "https://puppet.example/markets")
        for lines in ([markets, recv(trade(1, market="XDG"))], [broken, markets, recv(trade(1, market="XDG"))]):
            decoded = single(*lines, adapter=Listing)
            assert [event["symbol"] for event in of_kind(decoded, "trade")] == ["DOGE/USDT"]
            assert [event["symbol"] for event in of_kind(whole(*lines, adapter=Listing), "trade")] == ["DOGE/USDT"]
            assert [each.line for each in decoded if each.errors] == ([1] if broken in lines else [])


# Through the whole adapter -----------------------------------------------------------------------------------------------


class TestWhole:
    def test_every_spot_market_of_the_recording_is_wanted(self) -> None:
        decoded = whole(recv(trade(1), trade(7, market="SOLUSDT")), recv(trade(1), trade(3)))
        trades = [(event["symbol"], event["id"]) for event in of_kind(decoded, "trade")]
        assert trades == [("BTC/USDT", "1"), ("SOL/USDT", "7"), ("BTC/USDT", "3")]
        assert [(event["first_missing"], event["last_missing"]) for event in of_kind(decoded, "gap")] == [("2", "2")]

    def test_a_book_is_shown_after_every_change(self) -> None:
        decoded = whole(recv(change(10)), http(snapshot(10)), recv(change(11, bids=[["99", "5"]])), recv(change(12)))
        views = [(event["sequence"], tuple(event["bids"][0])) for event in of_kind(decoded, "book")]
        assert views == [(10, ("99", "1")), (11, ("99", "5")), (12, ("99", "5"))]

    def test_an_answer_that_was_recorded_before_it_is_asked_for_is_kept_until_then(self) -> None:
        decoded = whole(http(snapshot(10)), recv(change(11, bids=[["99", "5"]])))
        assert [(each.line, event["sequence"]) for each in decoded for event in each.events if event["type"] == "book"] == [
            (2, 11)
        ]

    @pytest.mark.parametrize("url", [URL, None])
    def test_an_answer_goes_to_whom_asked_for_it(self, url: str | None) -> None:
        decoded = whole(recv(change(11)), http(snapshot(11), url))
        assert [event["sequence"] for event in of_kind(decoded, "book")] == [11]

    def test_an_answer_nobody_asks_for_says_nothing(self) -> None:
        assert of_kind(whole(http(snapshot(10)), recv(trade(1))), "book") == []

    def test_the_depth_of_views_is_chosen(self) -> None:
        (view,) = of_kind(whole(http(snapshot(10)), recv(change(10)), depth=1), "book")
        assert (len(view["bids"]), len(view["asks"])) == (1, 1)

    def test_receive_times_are_those_of_the_recording(self) -> None:
        (event,) = of_kind(whole(recv(trade(1), ts=BEGAN + 0.25)), "trade")
        assert event["received"] == 1_700_000_000_250_000
        (event,) = of_kind(whole(recv(trade(1), ts=None)), "trade")
        assert event["received"] is None

    def test_time_passes_as_it_was_recorded(self) -> None:
        """A snapshot that stays out is asked for again, so that a later answer finds its question."""
        lines = [recv(change(10)), http('{"error":"busy"}'), *(recv(trade(n), ts=BEGAN + n) for n in range(1, 30))]
        decoded = whole(*lines, http(snapshot(10), ts=BEGAN + 30.0))
        assert [event["sequence"] for event in of_kind(decoded, "book")] == [10]

    def test_a_truncating_venue_keeps_the_depth_that_its_acknowledgement_names(self) -> None:
        ack: Call = ("acked", {"channel": "orderbooks", "native": "BTCUSDT", "depth": 2})
        full = snapshot(10, bids=[["99", "1"], ["98", "1"]])
        decoded = whole(recv(ack), recv(full), recv(change(None, 11, previous=10, bids=[["99.5", "1"]])), adapter=WINDOW)
        assert [level[0] for level in of_kind(decoded, "book")[-1]["bids"]] == ["99.5", "99"]

    def test_where_no_acknowledgement_names_a_depth_the_snapshot_does(self) -> None:
        full = snapshot(10, bids=[["99", "1"], ["98", "1"]])
        decoded = whole(recv(full), recv(change(None, 11, previous=10, bids=[["99.5", "1"]])), adapter=WINDOW)
        assert [level[0] for level in of_kind(decoded, "book")[-1]["bids"]] == ["99.5", "99"]

    def test_a_recording_may_be_deeper_than_the_venue_now_is(self) -> None:
        bids = [[str(1000 - place), "1"] for place in range(101)]
        decoded = whole(recv(snapshot(10, bids=bids, asks=[])), adapter=WINDOW)
        assert of_kind(decoded, "book")[-1]["bids"][0] == ("1000", "1")
        assert [each.errors for each in decoded] == [[]]

    def test_an_older_channel_s_changes_continue_the_book_that_the_recording_has_from_rest(self) -> None:
        now_on_the_socket = puppet(book=BookRule(chain="range", source="socket"))
        lines = [recv(change(10)), recv(change(11, bids=[["99", "5"]])), http(snapshot(10)), recv(change(12))]
        views = of_kind(whole(*lines, adapter=now_on_the_socket), "book")
        assert [(view["sequence"], view["bids"][0]) for view in views] == [(11, ("99", "5")), (12, ("99", "5"))]
        in_between = whole(*lines, recv(snapshot(20)), recv(change(21)), adapter=now_on_the_socket)
        assert [view["sequence"] for view in of_kind(in_between, "book")] == [11, 12, 20, 21]

    @given(st.lists(st.sampled_from([recv(trade(1)), recv(change(10)), http(snapshot(10)), Line("recv", raw="{")]) | st.builds(
        Line, st.sampled_from(["recv", "http", "connect", "what"]), st.none() | st.floats(0, 2e9),
        st.sampled_from([None, URL, "https://[", ""]), st.none(),
        st.none() | st.text(max_size=8), st.none() | st.binary(max_size=8),
    ), max_size=8))  # fmt: skip
    def test_whatever_was_recorded_is_decoded_or_told_as_an_error(self, lines: list[Line]) -> None:
        for decoded in (whole(*lines), single(*lines)):
            assert all(1 <= each.line <= len(lines) for each in decoded)
            orjson.dumps([each.events for each in decoded])


# The command line --------------------------------------------------------------------------------------------------------

BINANCE = [
    '{"ts":1700000000.0,"kind":"connect","url":"wss://stream.binance.com:9443/stream"}',
    r'{"ts":1700000000.5,"kind":"recv","url":null,"raw":"{\"e\":\"trade\",\"E\":1700000000400,\"s\":\"BNBBTC\",\"t\":12345,'
    r'\"p\":\"0.00100000\",\"q\":\"100\",\"T\":1700000000399,\"m\":true,\"M\":true}"}',
    r'{"ts":1700000000.6,"kind":"http","url":"https://api.binance.com/api/v3/depth?symbol=BNBBTC&limit=100","status":200,'
    r'"raw":"{\"lastUpdateId\":160,\"bids\":[[\"0.0024\",\"10\"],[\"0.0023\",\"1\"]],\"asks\":[[\"0.0026\",\"100\"]]}"}',
    r'{"ts":1700000000.7,"kind":"recv","url":null,"raw":"{\"e\":\"depthUpdate\",\"E\":1700000000600,\"s\":\"BNBBTC\",\"U\":157,'
    r'\"u\":161,\"b\":[[\"0.0024\",\"11\"]],\"a\":[]}"}',
]


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "recording.ndjson"
    path.write_text("\n".join(BINANCE) + "\n", encoding="utf-8")
    return path


class TestCommand:
    def run(self, capsysbinary: pytest.CaptureFixture[bytes], *arguments: object) -> tuple[int, list[Any], str]:
        code = main([str(argument) for argument in arguments])
        out, err = capsysbinary.readouterr()
        return (
            code,
            [json.loads(line) for line in out.splitlines()] if arguments[0] == "decode" else out.decode().split(),
            err.decode(),
        )

    def test_list_names_the_exchanges(self, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
        assert self.run(capsysbinary, "list") == (0, list(registry.NAMES), "")

    def test_decode_runs_the_whole_adapter(self, recording: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
        code, lines, complaint = self.run(capsysbinary, "decode", "binance", recording)
        assert (code, complaint) == (0, "")
        events = [event for line in lines for event in line["events"]]
        (view,) = [event for event in events if event["type"] == "book"]
        assert (view["symbol"], view["sequence"], view["bids"]) == ("BNB/BTC", 161, [["0.0024", "11"], ["0.0023", "1"]])
        (told,) = [event for event in events if event["type"] == "trade"]
        assert (told["price"], told["side"], told["received"]) == ("0.00100000", "sell", 1_700_000_000_500_000)

    def test_decode_raw_says_what_each_line_says(self, recording: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
        _, lines, _ = self.run(capsysbinary, "decode", "binance", recording, "--raw")
        assert [(line["line"], line["events"][0]["type"]) for line in lines] == [(2, "trade"), (3, "book"), (4, "book_delta")]
        assert all(line["errors"] == [] for line in lines)

    def test_the_depth_is_an_option(self, recording: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
        _, lines, _ = self.run(capsysbinary, "decode", "binance", recording, "--depth", 1)
        (view,) = [event for line in lines for event in line["events"] if event["type"] == "book"]
        assert len(view["bids"]) == 1

    def test_a_dash_reads_standard_input(
        self, recording: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        expected = self.run(capsysbinary, "decode", "binance", recording)
        monkeypatch.setattr(sys, "stdin", io.StringIO(recording.read_text(encoding="utf-8")))
        assert self.run(capsysbinary, "decode", "binance", "-") == expected

    def test_an_empty_recording_says_nothing(self, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
        (tmp_path / "empty").write_text("")
        assert self.run(capsysbinary, "decode", "binance", tmp_path / "empty") == (0, [], "")

    @pytest.mark.parametrize("separator", ["\u2028", "\x85", "\x0b"])
    def test_only_a_newline_ends_a_line(
        self, tmp_path: Path, separator: str, capsysbinary: pytest.CaptureFixture[bytes]
    ) -> None:
        """Texts of venues hold other separators too, which JSON lets stand as they are."""
        line = json.dumps({"kind": "recv", "raw": f'{{"error":{{"code":1,"msg":"a{separator}b"}},"id":1}}'}, ensure_ascii=False)
        if separator == "\x0b":
            line = line.replace(r"\u000b", " ")
        (tmp_path / "odd").write_text(line + "\n", encoding="utf-8")
        code, lines, _ = self.run(capsysbinary, "decode", "binance", tmp_path / "odd", "--raw")
        assert (code, len(lines)) == (0, 1)

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            (["nowhere", "FILE"], "unknown exchange 'nowhere'; known are"),
            (["binance", "FILE.gone"], "No such file"),
            (["binance", "FOLDER"], "Is a directory"),
            (["binance", "FILE", "--depth", "6000"], "at most 5000 levels"),
            (["binance", "BAD"], "line 1: "),
            (["binance", "BINARY"], "utf-8"),
        ],
    )
    def test_what_cannot_be_done_is_one_clear_line_and_exit_2(
        self, arguments: list[str], complaint: str, recording: Path, capsysbinary: pytest.CaptureFixture[bytes]
    ) -> None:
        (recording.parent / "bad").write_text("not json\n")
        (recording.parent / "binary").write_bytes(b"\xff\xfe\x00")
        places = {"FILE": recording, "FILE.gone": recording.with_name("gone"), "FOLDER": recording.parent}
        places |= {"BAD": recording.with_name("bad"), "BINARY": recording.with_name("binary")}
        code, lines, said = self.run(capsysbinary, "decode", *(places.get(each, each) for each in arguments))
        assert (code, lines) == (2, [])
        assert complaint in said
        assert said.count("\n") == 1
        assert "Traceback" not in said

    @pytest.mark.parametrize(
        "arguments",
        [
            [],
            ["decode"],
            ["decode", "binance"],
            ["decode", "binance", "x", "--depth", "no"],
            ["decode", "binance", "x", "--depth", "0"],
        ],
    )
    def test_wrong_arguments_are_explained(self, arguments: list[str], capsysbinary: pytest.CaptureFixture[bytes]) -> None:
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2
        assert b"usage: python -m adapters" in capsysbinary.readouterr().err

    def test_it_runs_as_a_module_and_a_reader_may_leave_early(self, recording: Path) -> None:
        recording.write_text("\n".join(BINANCE * 3000), encoding="utf-8")
        command = [sys.executable, "-m", "adapters", "decode", "binance", str(recording), "--raw"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=ROOT) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            assert json.loads(process.stdout.readline())["line"] == 2
            process.stdout.close()
            assert process.stderr.read() == b""
            assert process.wait() == 0


def test_every_error_of_a_recording_is_of_the_tree() -> None:
    with pytest.raises(AdapterError):
        read(["x"])


TICKERS: list[tuple[str, dict[str, Any] | list[Any], tuple[str, str, str, str]]] = [
    (
        "okx",
        {"code": "0", "data": [{"instId": "BTC-USDT", "last": "9", "bidPx": "8", "askPx": "10", "vol24h": "7", "ts": "1"}]},
        ("BTC/USDT", "8", "10", "9"),
    ),
    (
        "gateio",
        [{"currency_pair": "GT_USDT", "last": "9.5", "highest_bid": "9", "lowest_ask": "10", "base_volume": "1"}],
        ("GT/USDT", "9", "10", "9.5"),
    ),
    (
        "bybit",
        {"retCode": 0, "result": {"list": [{"symbol": "BTCEUR", "lastPrice": "9", "bid1Price": "8", "ask1Price": "10"}]}},
        ("BTC/EUR", "8", "10", "9"),
    ),
    (
        "cryptocom",
        {"code": 0, "result": {"data": [{"i": "BTC_USD", "a": "9", "b": "8.0", "k": "10", "t": 1613580710768}]}},
        ("BTC/USD", "8.0", "10", "9"),
    ),
    (
        "bitget",
        {"code": "00000", "data": [{"symbol": "BTCUSDC", "lastPr": "9", "bidPr": "8", "askPr": "10", "ts": "1695808949356"}]},
        ("BTC/USDC", "8", "10", "9"),
    ),
]


@pytest.mark.parametrize(("name", "body", "told"), TICKERS, ids=[name for name, _, _ in TICKERS])
def test_tickers_of_rest_are_known_by_their_shape(name: str, body: object, told: tuple[str, str, str, str]) -> None:
    (event,) = of_kind(single(http(orjson.dumps(body).decode(), None), adapter=registry.adapter(name)), "ticker")
    assert (event["symbol"], event["bid"], event["ask"], event["last"]) == told

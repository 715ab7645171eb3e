"""config.json as the collector reads it: the example keeps its meaning, and every fault is one line with the key's path."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters import registry
from adapters.events import CHANNELS
from collector.settings import Settings, json_schema, load
from master import settings as master_settings
from master.settings import ConfigError

CANARY = "canary-77c1b2"
REPOSITORY = Path(__file__).parents[2]

EXAMPLE: dict[str, Any] = {
    "master": {"url": "ws://127.0.0.1:8766", "connections": 5, "key": "YOUR_MASTER_KEY", "demo": False},
    "exchanges": [
        {
            "name": "binance",
            "enabled": True,
            "pairs": {"trades": ["BTC/USDT", "ETH/USDT"], "orderbooks": ["BTC/USDT"]},
            "chunking": {"trades_per_connection": 10, "orderbooks_per_connection": 1},
            "orderbook": {"depth": 20, "update_interval_ms": 1000},
        }
    ],
    "debug": {"raw": False, "log": False},
}


@pytest.fixture(autouse=True)
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither this machine's environment nor its secret files."""
    for name in ("COLLECTOR_MASTER__KEY", "COLLECTOR_WORKERS", "COLLECTOR_EXCHANGES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(master_settings, "SECRETS", tmp_path / "no-secrets")


def with_exchange(**changes: Any) -> dict[str, Any]:
    """The example, whose exchange is changed."""
    return {**EXAMPLE, "exchanges": [{**EXAMPLE["exchanges"][0], **changes}]}


def faults(source: Path | dict[str, Any], only: list[str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(source, only)
    return list(caught.value.lines)


class TestExample:
    def test_every_key_has_its_meaning(self) -> None:
        found = load(EXAMPLE)
        assert (found.master.url, found.master.connections, found.master.demo) == ("ws://127.0.0.1:8766", 5, False)
        (exchange,) = found.exchanges
        assert (exchange.name, exchange.enabled) == ("binance", True)
        assert (exchange.pairs.trades, exchange.pairs.orderbooks, exchange.pairs.tickers) == (
            ("BTC/USDT", "ETH/USDT"),
            ("BTC/USDT",),
            (),
        )
        assert [exchange.chunking.of(channel) for channel in CHANNELS] == [10, 1, None]
        assert (exchange.orderbook.depth, exchange.orderbook.update_interval_ms, exchange.orderbook.mode) == (20, 1000, "views")
        assert (found.debug.raw, found.debug.log) == (False, False)

    def test_the_shipped_configuration_is_right(self) -> None:
        assert load(REPOSITORY / "config.json").enabled

    def test_so_is_its_schema_for_editors(self) -> None:
        assert json.loads((REPOSITORY / "config.schema.json").read_text()) == json_schema()

    def test_no_key_but_the_exchanges_is_needed(self) -> None:
        found = load({"exchanges": [{"name": "kraken", "pairs": {"trades": ["BTC/USD"]}}]})
        assert found.workers is None


TWO = {**EXAMPLE, "exchanges": [EXAMPLE["exchanges"][0], {"name": "kraken", "pairs": {"trades": ["BTC/USD"]}}]}


class TestOnly:
    def test_some_of_the_exchanges(self) -> None:
        assert [each.name for each in load(TWO, ["kraken"]).enabled] == ["kraken"]

    def test_also_one_that_is_not_enabled(self) -> None:
        assert load(with_exchange(enabled=False), ["binance"]).enabled

    def test_one_that_is_not_configured(self) -> None:
        assert faults(TWO, ["okx"]) == ["--exchange okx: not in the configuration; there are binance, kraken"]

    @pytest.mark.parametrize("chosen", ["kraken", "kraken,", " kraken , kraken"])
    def test_chosen_in_the_environment(self, monkeypatch: pytest.MonkeyPatch, chosen: str) -> None:
        monkeypatch.setenv("COLLECTOR_EXCHANGES", chosen)
        found = load(TWO)
        assert [each.name for each in found.enabled] == ["kraken"]
        assert found.name == load(TWO, chosen.replace(",", " ").split()).name

    def test_the_command_line_goes_before_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLLECTOR_EXCHANGES", "kraken")
        assert [each.name for each in load(TWO, ["binance"]).enabled] == ["binance"]

    def test_nothing_chosen_is_everything(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLLECTOR_EXCHANGES", "")
        assert len(load(TWO).enabled) == 2

    def test_what_is_not_configured_is_told_by_its_place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLLECTOR_EXCHANGES", "kraken,okx")
        assert faults(TWO) == ["COLLECTOR_EXCHANGES=okx: not in the configuration; there are binance, kraken"]


class TestFaults:
    @pytest.mark.parametrize(
        ("content", "line"),
        [
            ({**EXAMPLE, "exchange": []}, "exchange: unknown key; known here: $schema, master, exchanges, workers, "),
            (with_exchange(nmae="x"), "exchanges[0].nmae: unknown key; known here: name, enabled, pairs, "),
            (
                with_exchange(pairs={"trade": []}),
                "exchanges[0].pairs.trade: unknown key; known here: trades, orderbooks, tickers",
            ),
            (with_exchange(chunking={"size": 1}), "exchanges[0].chunking.size: unknown key; "),
            (with_exchange(name="mtgox"), "exchanges[0].name: unknown exchange 'mtgox'; known are binance, "),
            (
                with_exchange(pairs={"trades": ["BTCUSDT"]}),
                "exchanges[0].pairs.trades[0]: 'BTCUSDT' is no symbol: write BASE/QUOTE",
            ),
            (with_exchange(pairs={"trades": ["A/B", "C/D", "A/B"]}), "exchanges[0].pairs.trades[2]: A/B stands twice"),
            (
                with_exchange(pairs={"orderbooks": ["BTC/USDT:USDT"]}),
                "exchanges[0].pairs.orderbooks[0]: BTC/USDT:USDT is no spot pair",
            ),
            (
                with_exchange(orderbook={"depth": 0}),
                "exchanges[0].orderbook.depth: input should be greater than or equal to 1, not 0",
            ),
            (with_exchange(orderbook={"depth": 10**6}), "exchanges[0].orderbook.depth: binance keeps at most "),
            (
                with_exchange(orderbook={"mode": "all"}),
                "exchanges[0].orderbook.mode: input should be 'views' or 'deltas', not 'all'",
            ),
            (
                with_exchange(chunking={"trades_per_connection": 10**6}),
                "exchanges[0].chunking.trades_per_connection: binance takes at most ",
            ),
            (with_exchange(chunking={"tickers_per_connection": 0}), "exchanges[0].chunking.tickers_per_connection: "),
            (with_exchange(url="https://x"), "exchanges[0].url: should begin with ws:// or wss://, not 'https://x'"),
            (with_exchange(workers=0), "exchanges[0].workers: "),
            ({**EXAMPLE, "workers": 0}, "workers: "),
            ({**EXAMPLE, "exchanges": {}}, "exchanges: a list [...] is expected"),
            ({**EXAMPLE, "exchanges": [7]}, "exchanges[0]: an object {...} is expected, not 7"),
            ({**EXAMPLE, "master": "x"}, "master: an object {...} is expected"),
            ({**EXAMPLE, "master": {"key": ""}}, "master.key: should not be empty"),
            (with_exchange(name=7), "exchanges[0].name: a text is expected, not 7"),
            ({**EXAMPLE, "debug": {"verbose": True}}, "debug.verbose: unknown key; known here: raw, log"),
            ({**EXAMPLE, "server": {"port": -1}}, "server.port: "),
            ({**EXAMPLE, "monitor": {"port": "x"}}, "monitor.port: "),
            ({**EXAMPLE, "exchanges": []}, "exchanges: none is enabled and has pairs, so that there is nothing to collect"),
            (with_exchange(enabled=False), "exchanges: none is enabled and has pairs"),
            (with_exchange(pairs={}), "exchanges: none is enabled and has pairs"),
        ],
    )
    def test_one_line_with_the_path(self, content: dict[str, Any], line: str) -> None:
        found = faults(content)
        assert [each for each in found if each.startswith(line)] == found, found
        assert len(found) == 1

    def test_an_exchange_twice_is_told_at_both_places(self) -> None:
        twice = {**EXAMPLE, "exchanges": [EXAMPLE["exchanges"][0]] * 2}
        assert faults(twice) == [
            f"exchanges[{index}].name: binance stands 2 times; give each exchange one entry" for index in (0, 1)
        ]

    def test_all_of_them_at_once(self) -> None:
        content = with_exchange(pairs={"trades": ["X", "Y"]}, orderbook={"depth": 10**6})
        assert len(faults(content)) == 3

    def test_the_known_exchanges_are_all_named(self) -> None:
        (line,) = faults(with_exchange(name="mtgox"))
        assert all(name in line for name in registry.NAMES)

    json_values = st.recursive(
        st.none() | st.booleans() | st.integers(-5, 10**6) | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["name", "pairs", "trades", "x"]), inner, max_size=3)
        ),
        max_leaves=8,
    )

    @given(st.sampled_from(["master", "exchanges", "workers", "server", "monitor", "debug", "$schema"]), json_values)
    def test_whatever_stands_there_it_is_read_or_refused(self, key: str, value: object) -> None:
        lines: tuple[str, ...] = ()
        try:
            load({**EXAMPLE, key: value})
        except ConfigError as error:
            lines = error.lines
        assert all(": " in line for line in lines)


class TestMaster:
    """Nothing crosses a network in plain text that nobody has asked for."""

    def test_the_placeholder_is_no_key_for_another_machine(self) -> None:
        elsewhere = {**EXAMPLE, "master": {"url": "wss://master:8766"}}
        (line,) = faults(elsewhere)
        assert line.startswith("master.key: still the placeholder")
        assert "COLLECTOR_MASTER__KEY" in line
        assert load({**EXAMPLE, "master": {"url": "wss://master:8766", "key": CANARY}}).master.url == "wss://master:8766"

    @pytest.mark.parametrize("url", ["ws://10.0.0.5:8766", "ws://master:8766", "ws://[2001:db8::1]:8766"])
    def test_plain_text_to_another_machine(self, url: str) -> None:
        (line,) = faults({**EXAMPLE, "master": {"url": url, "key": CANARY}})
        assert line.startswith(f"master.url: {url} is another machine")
        assert all(way in line for way in ("wss://", "master.ca", "master.allow_plaintext"))
        assert load({**EXAMPLE, "master": {"url": url, "key": CANARY, "allow_plaintext": True}}).master.url == url

    @pytest.mark.parametrize("url", ["wss://master:8766", "ws://localhost:1", "ws://127.0.0.9:1", "ws://[::1]:1"])
    def test_what_nobody_can_overhear(self, url: str) -> None:
        assert load({**EXAMPLE, "master": {"url": url, "key": CANARY}}).master.url == url

    def test_an_authority_that_is_not_there_is_found_before_anything_starts(self, tmp_path: Path) -> None:
        master = {"url": "wss://master:8766", "key": CANARY, "ca": str(tmp_path / "none.pem")}
        (line,) = faults({**EXAMPLE, "master": master})
        assert line == f"master.ca: {tmp_path / 'none.pem'}: No such file or directory"


class TestSources:
    def test_environment_and_secret_files_before_the_file(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(master_settings, "SECRETS", tmp_path)
        (tmp_path / "COLLECTOR_MASTER__KEY").write_text("of the secret")
        assert load(EXAMPLE).master.key.get_secret_value() == "of the secret"
        monkeypatch.setenv("COLLECTOR_MASTER__KEY", "of the environment")
        monkeypatch.setenv("COLLECTOR_WORKERS", "3")
        found = load(EXAMPLE)
        assert (found.master.key.get_secret_value(), found.workers, found.master.connections) == ("of the environment", 3, 5)

    def test_an_unknown_key_of_a_section_in_the_environment(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLLECTOR_MASTER__KAY", CANARY)
        (line,) = faults(EXAMPLE)
        assert line.startswith("master.kay: unknown key")
        assert CANARY not in line

    def test_a_section_in_the_environment_that_is_no_section(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("COLLECTOR_MASTER", CANARY)
        (line,) = faults(EXAMPLE)
        assert line.startswith("environment: ")
        assert "COLLECTOR_MASTER__KEY" in line
        assert CANARY not in line

    def test_the_environment_of_other_programs_is_left_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("MASTER", CANARY)
        monkeypatch.setenv("COLLECTOR_HOME", "/somewhere")
        load(EXAMPLE)


class TestSecrets:
    @pytest.mark.parametrize("master", [{"key": CANARY, "connections": 0}, {"kee": CANARY}, {"key": [CANARY]}, CANARY])
    def test_in_no_message(self, master: object) -> None:
        assert CANARY not in "\n".join(faults({**EXAMPLE, "master": master}))

    def test_nor_in_a_fault_elsewhere(self) -> None:
        content = with_exchange(name="mtgox") | {"master": {"key": CANARY}}
        assert CANARY not in "\n".join(faults(content))

    def test_nor_in_what_was_loaded(self) -> None:
        found = load({**EXAMPLE, "master": {"key": CANARY}})
        assert CANARY not in f"{found!r} {found!s} {found.model_dump_json()} {found.model_copy()!r}"

    def test_a_wrong_configuration_as_a_file(self, tmp_path: Path) -> None:
        file = tmp_path / "config.json"
        file.write_text('{"master": {"key": "' + CANARY + '"')
        (line,) = faults(file)
        assert CANARY not in line
        assert line.startswith(f"{file}: line 1, column ")


def test_what_is_loaded_cannot_be_changed() -> None:
    found = load(EXAMPLE)
    assert isinstance(found, Settings)
    with pytest.raises(ValueError, match="frozen"):
        found.workers = 7


class TestShard:
    SHARDED = with_exchange(pairs={"trades": ["BTC/*"]})

    @pytest.mark.parametrize(
        ("shard", "host", "part"),
        [("0/3", "any", (0, 3)), ("2/3", "any", (2, 3)), ("from-hostname/3", "collector-1", (1, 3))],
    )
    def test_a_part_of_all_pairs_under_a_name_of_its_own(
        self, shard: str, host: str, part: tuple[int, int], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("collector.settings.gethostname", lambda: host)
        found = load(self.SHARDED | {"shard": shard})
        assert (found.part.part, found.part.of) == part
        assert found.name == f"{host}-{part[0]}of{part[1]}"
        assert load(self.SHARDED | {"shard": shard, "name": "prod"}).name == f"prod-{part[0]}of{part[1]}"

    @pytest.mark.parametrize(
        ("shard", "words"),
        [
            ("3/3", "3 of 3 is not there; they are counted from 0"),
            ("1", "shard"),
            ("from-hostname/2", "the host name collector does not end in a dash and a number"),
        ],
    )
    def test_one_that_is_not_there(self, shard: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("collector.settings.gethostname", lambda: "collector")
        (fault,) = faults(self.SHARDED | {"shard": shard})
        assert words in fault

    def test_one_that_has_nothing_to_do(self) -> None:
        one = with_exchange(pairs={"trades": ["BTC/USDT"]})
        shards = [f"{part}/2" for part in range(2)]
        assert sum("has none of the pairs" in line for shard in shards for line in _faults_of(one | {"shard": shard})) == 1


def _faults_of(source: dict[str, Any]) -> list[str]:
    try:
        load(source)
    except ConfigError as error:
        return list(error.lines)
    return []

"""config.json as the collector reads it: what to ask of which exchange. Checked whole, before anything is started."""

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from socket import gethostname
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from adapters import registry
from adapters.errors import SymbolError
from adapters.events import CHANNELS, Channel
from adapters.symbols import is_pattern, parse
from collector.plan import WHOLE, Shard, parts
from master.auth import PLACEHOLDER_KEY
from master.jetstream.settings import JetStreamSettings
from master.pricing.feeds import PriceSettings
from master.section import Section
from master.settings import CHOICE, ConfigError, Master, Server, is_loopback
from master.settings import load as load_model
from master.tls import TlsError, trusting

FROM_HOSTNAME = "from-hostname"


class Pairs(Section):
    """Canonical symbols, such as `BTC/USDT`, and patterns: `*/USDT`, `BTC/*`, `all`. An empty list means none."""

    trades: tuple[str, ...] = ()
    orderbooks: tuple[str, ...] = ()
    tickers: tuple[str, ...] = ()

    def of(self, channel: Channel) -> tuple[str, ...]:
        symbols: tuple[str, ...] = getattr(self, channel)
        return symbols


class Chunking(Section):
    """How many pairs share a connection; where it is left out, the venue's own habit."""

    trades_per_connection: int | None = Field(default=None, ge=1)
    orderbooks_per_connection: int | None = Field(default=None, ge=1)
    tickers_per_connection: int | None = Field(default=None, ge=1)

    def of(self, channel: Channel) -> int | None:
        size: int | None = getattr(self, f"{channel}_per_connection")
        return size


class Orderbook(Section):
    depth: int = Field(default=20, ge=1, description="levels a side of each view")
    update_interval_ms: int = Field(default=1000, ge=0, description="time between views of a book; 0: after each change")
    mode: Literal["views", "deltas"] = Field(default="views", description="deltas: every change of a book as well")


class Exchange(Section):
    name: str
    enabled: bool = True
    pairs: Pairs = Pairs()
    chunking: Chunking = Chunking()
    orderbook: Orderbook = Orderbook()
    url: str | None = Field(default=None, pattern=r"^wss?://", description="another WebSocket address of this venue")
    aliases: dict[str, str] = Field(default={}, description='assets that it lists under another name: {"TON": "GRAM"}')
    workers: int = Field(default=1, ge=1, le=64, description="processes among which this exchange is split")
    redundancy: int = Field(default=1, ge=1, le=2, description="connections that bring the same pairs; either may die")


class Debug(Section):
    raw: bool = Field(default=False, description="keep every frame in <server.data>/raw, in the format that `decode` reads")
    log: bool = Field(default=False, description="log at debug level")


class Monitor(Section):
    """Where the collector itself answers /health and /metrics."""

    host: str = "127.0.0.1"
    port: int = Field(default=8768, ge=0, le=65535, description="0: the system chooses")


class Spool(Section):
    """Where batches wait on disk until the master has them."""

    folder: Path | None = Field(default=None, description="where; <server.data>/spool where left out")
    max_mb: int = Field(default=1024, ge=0, description="room of each worker; 0: no spool, what waits is lost with its process")
    fsync_ms: int = Field(default=500, ge=0, le=60_000, description="time between fsyncs; 0: before each batch is sent")


class Settings(BaseSettings):
    """The whole of config.json."""

    model_config = SettingsConfigDict(
        env_prefix="COLLECTOR_", env_nested_delimiter="__", extra="forbid", frozen=True, populate_by_name=True
    )

    editor_schema: str | None = Field(default=None, alias="$schema", description="for editors: config.schema.json")
    master: Master = Master()
    exchanges: Annotated[tuple[Exchange, ...], NoDecode] = ()
    workers: int | None = Field(default=None, ge=1, le=256, description="processes; as many as there are cores where left out")
    name: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9_.+-]{1,64}$", description="of this collector; its host's where left out"
    )
    shard: str | None = Field(
        default=None,
        pattern=rf"^(\d{{1,3}}|{FROM_HOSTNAME})/[1-9]\d{{0,2}}$",
        description=f"2/3: part 2 (from 0) of 3 of all pairs; {FROM_HOSTNAME}/3: the number behind the host name's last dash",
    )
    server: Server = Server()
    prices: PriceSettings = PriceSettings()
    jetstream: JetStreamSettings = JetStreamSettings()
    spool: Spool = Spool()
    monitor: Monitor = Monitor()
    debug: Debug = Debug()

    @property
    def enabled(self) -> tuple[Exchange, ...]:
        return tuple(exchange for exchange in self.exchanges if exchange.enabled)

    @property
    def part(self) -> Shard:
        """What of all pairs is ours. Raises ConfigError."""
        if self.shard is None:
            return WHOLE
        text, _, of = self.shard.partition("/")
        host = gethostname().partition(".")[0]
        number = host.rpartition("-")[2] if text == FROM_HOSTNAME else text
        if not number.isdecimal():
            raise ConfigError(f"shard: {self.shard}, but the host name {host} does not end in a dash and a number")
        if int(number) >= int(of):
            raise ConfigError(f"shard: {number} of {of} is not there; they are counted from 0")
        return Shard(int(number), int(of))


def load(source: Path | dict[str, Any], only: list[str] | None = None, **options: Any) -> Settings:
    """Read and check the configuration; `only` these exchanges are enabled, or those that COLLECTOR_EXCHANGES names.

    Raises ConfigError with every fault.
    """
    settings = load_model(Settings, source, **options)
    told_by = "--exchange " if only else f"{CHOICE}="
    only = only or os.environ.get(CHOICE, "").replace(",", " ").split()
    of_master = [] if settings.jetstream.servers else _master_faults(settings.master)
    faults = [*of_master, *_faults(settings), *_unknown(settings, only, told_by)]
    if faults:
        raise ConfigError(*faults)
    if only:
        named = settings.name or f"{gethostname()}-{'+'.join(only)}"  # so that two of them can run beside each other
        chosen = tuple(each.model_copy(update={"enabled": each.name in only}) for each in settings.exchanges)
        settings = settings.model_copy(update={"exchanges": chosen, "name": named})
    if not any(exchange.pairs.of(channel) for exchange in settings.enabled for channel in CHANNELS):
        raise ConfigError("exchanges: none is enabled and has pairs, so that there is nothing to collect")
    if settings.part != WHOLE:
        settings = settings.model_copy(update={"name": f"{settings.name or gethostname()}-{settings.part}"})
    if not any(parts(exchange, settings.part) for exchange in settings.enabled):
        raise ConfigError(f"shard: {settings.shard} has none of the pairs; there are too few of them for so many shards")
    return settings


def _unknown(settings: Settings, only: list[str], told_by: str) -> Iterator[str]:
    configured = [exchange.name for exchange in settings.exchanges]
    for name in only:
        if name not in configured:
            yield f"{told_by}{name}: not in the configuration; there are {', '.join(configured)}"


def _master_faults(master: Master) -> Iterator[str]:
    url = urlsplit(master.url)
    is_remote = not is_loopback(url.hostname or "")
    if is_remote and master.key.get_secret_value() == PLACEHOLDER_KEY:
        yield "master.key: still the placeholder, and master.url is another machine; give its key as COLLECTOR_MASTER__KEY"
    if is_remote and url.scheme == "ws" and not master.allow_plaintext:
        yield (
            f"master.url: {master.url} is another machine, and nothing would be encrypted; use wss:// (with master.ca, if the "
            "master's certificate is your own), or set master.allow_plaintext to true where the network itself is trusted"
        )
    try:
        trusting(master.ca)
    except TlsError as error:
        yield f"master.ca: {error}"


def _faults(settings: Settings) -> Iterator[str]:
    """What only somebody who knows the venues can find."""
    names = Counter(exchange.name for exchange in settings.exchanges)
    for index, exchange in enumerate(settings.exchanges):
        where = f"exchanges[{index}]"
        if exchange.name not in registry.NAMES:
            yield f"{where}.name: unknown exchange {exchange.name!r}; known are {', '.join(registry.NAMES)}"
            continue
        if names[exchange.name] > 1:
            yield f"{where}.name: {exchange.name} stands {names[exchange.name]} times; give each exchange one entry"
        yield from _venue_faults(exchange, where)
        for channel in CHANNELS:
            yield from _pair_faults(exchange.pairs.of(channel), f"{where}.pairs.{channel}")


def _venue_faults(exchange: Exchange, where: str) -> Iterator[str]:
    venue = registry.adapter(exchange.name).venue
    try:
        venue.depth_for(exchange.orderbook.depth)
    except SymbolError as error:
        yield f"{where}.orderbook.depth: {error}"
    for channel in CHANNELS:
        size, most = exchange.chunking.of(channel), venue.limits.topics_per_connection
        if size is not None and size > most:
            yield f"{where}.chunking.{channel}_per_connection: {exchange.name} takes at most {most} on a connection, not {size}"


def _pair_faults(symbols: tuple[str, ...], where: str) -> Iterator[str]:
    for index, symbol in enumerate(symbols):
        try:
            if not is_pattern(symbol) and not parse(symbol).is_spot:
                yield f"{where}[{index}]: {symbol} is no spot pair; derivatives are not collected yet"
        except SymbolError as error:
            yield f"{where}[{index}]: {error}"
        if symbol in symbols[:index]:
            yield f"{where}[{index}]: {symbol} stands twice"


def json_schema() -> dict[str, Any]:
    """config.schema.json, for editors."""
    schema = Settings.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "config.json", **schema}

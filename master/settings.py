"""config.json as both programs read it: the file, then secret files, then environment (`COLLECTOR_MASTER__KEY`), then options.

The master reads its own sections and leaves the rest to the collector, whose settings build on these.
"""

from ipaddress import IPv6Address, ip_address
from pathlib import Path
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, Field, SecretStr, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from master.auth import PLACEHOLDER_KEY
from master.jetstream.settings import JetStreamSettings
from master.pricing.feeds import PriceSettings
from master.section import Section

SECRETS = Path("/run/secrets")
FOR_OTHERS = 0o077
CHOICE = "COLLECTOR_EXCHANGES"
"""The one name in the environment that is no key of the file: it chooses among the file's exchanges."""


class ConfigError(Exception):
    """What is wrong with the configuration: a line for each fault, beginning with the key's path."""

    def __init__(self, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.lines = lines


class Master(Section):
    """Where collectors send to, and the key that both sides share."""

    url: str = Field(default="ws://127.0.0.1:8766", pattern=r"^wss?://")
    connections: int = Field(default=5, ge=1, le=64, description="connections of each worker")
    key: SecretStr = Field(default=SecretStr(PLACEHOLDER_KEY), min_length=1)
    ca: Path | None = Field(default=None, description="PEM file: whom wss:// believes, instead of the system's authorities")
    allow_plaintext: bool = Field(default=False, description="ws:// to another machine")
    demo: bool = Field(default=False, description="show events here instead of sending them to a master")


class Http(Section):
    """Who may ask the master over HTTP, how often, and how many at once."""

    auth: bool | None = Field(
        default=None, description="a consumer or admin key is needed; null: where server.host is reached from other machines"
    )
    cors: tuple[str, ...] = Field(default=(), description="origins whose pages may ask, such as https://desk.example; *: all")
    rate: float | None = Field(
        default=200.0, gt=0, description="requests a second of one address, twice as many at once; null: no limit"
    )
    connections: int = Field(default=256, ge=1, le=65536, description="at once; any more are answered 503")


class Server(Section):
    """The master itself."""

    host: str = "127.0.0.1"
    port: int = Field(default=8766, ge=0, le=65535, description="WebSocket ingest; 0: the system chooses")
    http_port: int = Field(default=8767, ge=0, le=65535, description="the HTTP API; 0: the system chooses")
    data: Path = Path("data")
    segment_mb: int = Field(default=64, ge=1, le=1024, description="size at which a journal segment is sealed to Parquet")
    segment_minutes: float = Field(default=15.0, gt=0, description="age at which it is")
    retention_days: int = Field(default=7, ge=1)
    retention_gb: float = Field(default=10.0, gt=0, description="size of the lake above which its oldest files go")
    tls_cert: Path | None = Field(default=None, description="PEM file: certificate with chain; collectors use wss:// then")
    tls_key: Path | None = Field(default=None, description="PEM file: its key")
    allow_plaintext: bool = Field(default=False, description="a host that other machines reach, without TLS")
    allow_legacy: bool | None = Field(
        default=None, description="login of older collectors, which sends the key; null: over TLS and from this machine only"
    )
    http: Http = Http()


class MasterSettings(BaseSettings):
    """What the master reads of config.json."""

    model_config = SettingsConfigDict(env_prefix="COLLECTOR_", env_nested_delimiter="__", extra="ignore", frozen=True)

    master: Master = Master()
    server: Server = Server()
    prices: PriceSettings = PriceSettings()
    jetstream: JetStreamSettings = JetStreamSettings()


Model = TypeVar("Model", bound=BaseSettings)


class _Environment(EnvSettingsSource):
    def __call__(self) -> dict[str, Any]:
        found = super().__call__()
        found.pop("exchanges", None)  # see CHOICE
        return found


def load(model: type[Model], source: Path | dict[str, Any], **options: Any) -> Model:
    """Read and check the configuration, of a file or given. Raises ConfigError, with every fault that can be found at once."""
    content = source if isinstance(source, dict) else _content(source)

    class FromFile(model):  # type: ignore[misc, valid-type]
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            secrets = NestedSecretsSettingsSource(
                file_secret_settings,
                secrets_dir=SECRETS if SECRETS.is_dir() else None,
                env_prefix="COLLECTOR_",
                secrets_nested_delimiter="__",
            )
            return init_settings, _Environment(settings_cls), secrets, InitSettingsSource(settings_cls, content)

    try:
        loaded = FromFile(**options)
    except OSError as error:
        raise ConfigError(
            f"{error.filename}: {error.strerror}; a secret file must be readable by the user of this program"
        ) from error
    except SettingsError as error:
        raise ConfigError(f"environment: {error}; name one key of a section, as in COLLECTOR_MASTER__KEY") from error
    except ValidationError as error:
        raise ConfigError(*(_line(model, fault) for fault in error.errors(include_url=False))) from error
    if isinstance(source, Path) and _shows_key(source, content, loaded.master.key.get_secret_value()):
        raise ConfigError(
            f"master.key: others can read {source}; give the key as COLLECTOR_MASTER__KEY, in environment or as a file of that "
            f"name in {SECRETS}, or chmod 600 {source}"
        )
    return loaded


def is_loopback(host: str) -> bool:
    """Whether only this machine can be meant."""
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost"
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _shows_key(file: Path, content: dict[str, Any], in_use: str) -> bool:
    """Whether the key in use is in the file (and is one), and others can read it there."""
    section = content.get("master")
    key = section.get("key", PLACEHOLDER_KEY) if isinstance(section, dict) else PLACEHOLDER_KEY
    return key == in_use != PLACEHOLDER_KEY and bool(file.stat().st_mode & FOR_OTHERS)


def _content(file: Path) -> dict[str, Any]:
    try:
        content = orjson.loads(file.read_bytes())
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}; --config names the file") from error
    except orjson.JSONDecodeError as error:
        raise ConfigError(f"{file}: line {error.lineno}, column {error.colno}: {error.msg}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{file}: a JSON object is expected")
    return content


_WORDS = {
    **dict.fromkeys(("model_type", "dict_type"), "an object {...} is expected"),
    **dict.fromkeys(("tuple_type", "list_type"), "a list [...] is expected"),
    "string_type": "a text is expected",
    "too_short": "should not be empty",
    "string_pattern_mismatch": "should begin with ws:// or wss://",  # the only pattern there is
}
"""For those faults that the library tells in its own terms."""


def _line(model: type[BaseModel], fault: ErrorDetails) -> str:
    """One fault as a person reads it: the key's path, what is wrong, and what would be right. Never a value of a secret."""
    where = path(fault["loc"])
    if fault["type"] == "extra_forbidden":
        known = _keys(model, fault["loc"][:-1])
        return f"{where}: unknown key; known here: {', '.join(known)}"
    if fault["type"] == "value_error":  # a check of our own, which says it all
        return f"{where}: {fault['msg'].removeprefix('Value error, ')}"
    message = _WORDS.get(fault["type"]) or fault["msg"]
    value = fault["input"]
    shown = isinstance(value, str | int | float | bool) and "key" not in fault["loc"] and fault["loc"] != ("master",)
    return f"{where}: {message[0].lower()}{message[1:]}" + (f", not {value!r}" if shown else "")


def path(location: tuple[int | str, ...]) -> str:
    """`("exchanges", 0, "name")` as `exchanges[0].name`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "the file"


def _keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The keys that the section at this place knows."""
    for part in location:
        if isinstance(part, str):
            annotation = model.model_fields[part].annotation
            inner = [each for each in (annotation, *getattr(annotation, "__args__", ())) if isinstance(each, type)]
            model = next(each for each in inner if issubclass(each, BaseModel))
    return [field.alias or name for name, field in model.model_fields.items()]

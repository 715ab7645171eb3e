"""Prints a fleet of containers for config.json: a master, and a collector for each exchange, as large as its plan wants.

usage: scripts/fleet.py compose > compose.yaml
       scripts/fleet.py secret | kubectl apply -f -          once: a fresh key
       scripts/fleet.py kubernetes --registry registry.example/us/ | kubectl apply -f -
"""

import argparse
import json
import sys
from hashlib import sha256
from math import ceil
from pathlib import Path
from secrets import token_hex
from string import Template

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from collector import __version__  # noqa: E402 (the project is run from its folder, not installed)
from collector.plan import PATTERN_PAIRS, parts  # noqa: E402
from collector.settings import Exchange, Settings, load  # noqa: E402
from master.auth import PLACEHOLDER_KEY  # noqa: E402
from master.settings import ConfigError  # noqa: E402

TEMPLATES = Path(__file__).resolve().parent / "fleet_templates"
SUPERVISOR_MB, WORKER_MB, BOOK_MB = 64, 64, 4
"""Measured: docs/operations.md. A book is some 220 bytes a level, and up to 20,000 levels."""
HEADROOM = 2
"""Of the limit over what is asked for: while a master is away, or two connections hold the same book."""
MASTER_MB = 2560
"""The master itself, the process that answers questions (DuckDB has 1 GB there), and the one that seals."""
JOURNAL_GB = 4
"""What waits to be sealed, and the 2 GB that the master leaves free."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/fleet.py", description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=("compose", "kubernetes", "secret"))
    parser.add_argument("--config", type=Path, default=ROOT / "config.json", help="(default: config.json)")
    parser.add_argument("--registry", default="", help="where Kubernetes gets the images, such as registry.example/us/")
    options = parser.parse_args()
    if options.what == "secret":
        print(_filled("secret.yaml", key=token_hex(32)), end="")
        return 0
    try:
        settings = load(options.config)
        print(
            compose(settings) if options.what == "compose" else kubernetes(settings, options.config, options.registry), end=""
        )
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def compose(settings: Settings) -> str:
    """A compose file. A large exchange has several worker processes in its one container. With `jetstream.servers` a NATS
    server as well, called `nats`."""
    services = [
        _filled("compose.collector.yaml", exchange=each.name, memory_limit=HEADROOM * _memory(each, each.workers))
        for each in _collected(settings)
    ]
    volumes = [each.name for each in _collected(settings)]
    configs = ""
    if settings.jetstream.servers:
        services.append(_filled("compose.nats.yaml"))
        volumes.append("nats")
        configs = _filled("compose.nats.configs.yaml")
    return _filled(
        "compose.yaml",
        services="".join(services),
        volumes="\n".join(f"  {name}:" for name in volumes),
        master_memory=MASTER_MB,
        configs=configs,
    )


def kubernetes(settings: Settings, config: Path, registry: str) -> str:
    """Manifests. A large exchange has several pods, each with its share of the pairs. Raises ConfigError for a key."""
    text = config.read_text()
    content = json.loads(text)
    if content.get("master", {}).get("key", PLACEHOLDER_KEY) != PLACEHOLDER_KEY:
        raise ConfigError("master.key: a ConfigMap is no place for a key; take it out of the configuration, and see `secret`")
    collectors = [_stateful_set(each, settings, content, registry) for each in _collected(settings)]
    return _filled(
        "kubernetes.yaml",
        config="\n".join(f"    {line}" for line in text.splitlines()),
        fingerprint=_fingerprint({name: content.get(name) for name in ("master", "server", "prices")}),
        registry=registry,
        version=__version__,
        master_memory=MASTER_MB,
        master_disk=ceil(settings.server.retention_gb) + JOURNAL_GB,
        collectors="".join(collectors).rstrip(),
    )


def _collected(settings: Settings) -> list[Exchange]:
    return [each for each in settings.enabled if parts(each)]


def _stateful_set(exchange: Exchange, settings: Settings, content: dict[str, object], registry: str) -> str:
    replicas = exchange.workers
    memory = _memory(exchange, 1, of=replicas)
    shard = {"COLLECTOR_SHARD": f"from-hostname/{replicas}", "COLLECTOR_WORKERS": "1"} if replicas > 1 else {}
    own = {name: each for name, each in content.items() if name not in ("exchanges", "server", "prices")}
    return _filled(
        "kubernetes.collector.yaml",
        exchange=exchange.name,
        replicas=replicas,
        fingerprint=_fingerprint({**own, "exchange": exchange.model_dump(mode="json")}),
        registry=registry,
        version=__version__,
        shard="".join(f'\n            - {{name: {name}, value: "{value}"}}' for name, value in shard.items()),
        memory=memory,
        memory_limit=HEADROOM * memory,
        disk=ceil(settings.spool.max_mb / 1024) + 1,
    )


def _memory(exchange: Exchange, workers: int, of: int = 1) -> int:
    """MB of a container with so many worker processes and one `of` so many parts of the exchange's books."""
    books = sum(sum(len(chunk.symbols) for chunk in part.chunks if chunk.channel == "orderbooks") for part in parts(exchange))
    books += PATTERN_PAIRS * sum(each.channel == "orderbooks" for each in parts(exchange)[0].patterns)
    return SUPERVISOR_MB + workers * WORKER_MB + ceil(books * exchange.redundancy / of) * BOOK_MB


def _fingerprint(content: dict[str, object]) -> str:
    """What a pod is restarted for: a change of what it reads, and of nothing else."""
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _filled(template: str, **values: object) -> str:
    return Template((TEMPLATES / template).read_text()).substitute(values)


if __name__ == "__main__":
    sys.exit(main())

"""python -m master: run the master, or ask it for data."""

import argparse
import asyncio
import fcntl
import gc
import os
import signal
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from master import keys
from master.auth import ROLES, join_key
from master.log import configure
from master.settings import ConfigError, MasterSettings, load

FAULTY, FAILED = 2, 1


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        return int(options.run(options))
    except ConfigError as error:
        print(error, file=sys.stderr)
        return FAULTY
    except keys.KeyRingError as error:
        print(error, file=sys.stderr)
        return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m master", description="Receives, keeps and serves what collectors send.")
    parser.set_defaults(run=_serve, sql=None)
    _common(parser)
    commands = parser.add_subparsers(title="commands")
    query = commands.add_parser("query", help="SQL over everything that is stored; also while the master runs")
    _common(query)
    query.add_argument("sql", help='such as "SELECT exchange, count(*) FROM trades GROUP BY 1"')
    query.add_argument("--format", choices=("table", "csv", "json", "parquet"), default="table")
    query.set_defaults(run=_query)
    gaps = commands.add_parser("gaps", help="how complete the data is, by exchange, symbol, channel and hour")
    _common(gaps)
    gaps.add_argument("--exchange")
    gaps.add_argument("--symbol", help="such as BTC/USDT")
    gaps.add_argument("--since", help="the first hour, such as 2026-01-31T12:00 (UTC)")
    gaps.add_argument("--until", help="the hour behind the last (UTC)")
    gaps.add_argument("--format", choices=("table", "csv", "json", "parquet"), default="table")
    gaps.set_defaults(run=_gaps)
    _add_export(commands.add_parser("export", help="files for other tools, in the columns of tardis.dev's CSV files"))
    tidy = commands.add_parser("tidy", help="seal closed journal segments and enforce retention (the master does this itself)")
    tidy.add_argument("segments", nargs="*", type=Path)
    tidy.add_argument("--data", type=Path, required=True)
    tidy.add_argument("--days", type=int, required=True)
    tidy.add_argument("--bytes", type=int, required=True)
    tidy.set_defaults(run=_tidy)
    health = commands.add_parser("health", help="a line on how the running master is; exit code 0 while it runs and answers")
    _common(health)
    health.add_argument("--ready", action="store_true", help="exit code 0 only while it can store and answer questions")
    health.set_defaults(run=_health)
    _add_keys(commands.add_parser("keys", help="make, list and revoke keys; a running master follows at once"))
    return parser


def _add_export(parser: argparse.ArgumentParser) -> None:
    _common(parser)
    parser.add_argument("--format", choices=("tardis-csv", "parquet"), required=True)
    parser.add_argument("--out", type=Path, required=True, help="the folder for the files")
    parser.add_argument("--exchange")
    parser.add_argument("--symbol", help="such as BTC/USDT")
    parser.add_argument("--type", help="such as trades,incremental_book_L2 (default: all)")
    parser.add_argument("--start", help="the first moment, such as 2026-01-31 or 2026-01-31T12:00 (UTC)")
    parser.add_argument("--end", help="the moment behind the last (UTC)")
    parser.set_defaults(run=_export)


def _add_keys(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(title="commands", required=True)
    new = commands.add_parser("new", help="make a key: printed once, to be given to its users as COLLECTOR_MASTER__KEY")
    _common(new)
    new.add_argument("--role", choices=ROLES, required=True)
    new.add_argument("--name", default="", help="a note for people")
    new.add_argument("--expires-days", type=int, metavar="DAYS", help="(default: never)")
    new.set_defaults(run=_new_key)
    listing = commands.add_parser("list", help="which keys there are; never the keys themselves")
    _common(listing)
    listing.set_defaults(run=_list_keys)
    revoke = commands.add_parser("revoke", help="end a key and the sessions that use it")
    _common(revoke)
    revoke.add_argument("id")
    revoke.set_defaults(run=_revoke_key)


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, default=argparse.SUPPRESS, help="the configuration (default: config.json)")
    parser.add_argument("--data", type=Path, default=argparse.SUPPRESS, help="the data directory (default: server.data)")


def _settings(options: argparse.Namespace) -> MasterSettings:
    chosen: dict[str, Any] = {"server": {"data": options.data}} if hasattr(options, "data") else {}
    return load(MasterSettings, getattr(options, "config", Path("config.json")), **chosen)


def _serve(options: argparse.Namespace) -> int:
    import uvloop  # noqa: PLC0415 (a query needs none of the server)

    from master.service import StartError, run  # noqa: PLC0415

    settings = _settings(options)
    configure()
    # What lives long here is in no cycle, and grows: a full collection of it holds up acknowledgements for half a second.
    gc.freeze()
    gc.set_threshold(20_000, 20, 200)

    async def serve() -> None:
        stop, hangup = asyncio.Event(), asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, hangup.set)
        await run(settings, stop, hangup)

    try:
        uvloop.run(serve())
    except StartError as error:
        print(error, file=sys.stderr)
        return FAULTY
    return 0


def _health(options: argparse.Namespace) -> int:
    from master.probe import health  # noqa: PLC0415

    config = getattr(options, "config", Path("config.json"))
    code, line = health(config, getattr(options, "data", None), ready=options.ready)
    print(line)
    return code


def _key_file(options: argparse.Namespace) -> Path:
    return keys.file_in(options.data if hasattr(options, "data") else _settings(options).server.data)


def _new_key(options: argparse.Namespace) -> int:
    days = options.expires_days
    if days is not None and days < 1:
        raise ConfigError(f"--expires-days: at least 1, not {days}")
    made = keys.make(_key_file(options), options.role, options.name, None if days is None else timedelta(days=days))
    print(join_key(made.id, made.key))
    print(
        f"{made.role} key {made.id}; it is not shown again. Give it to its users as COLLECTOR_MASTER__KEY, in environment or "
        "as a file of that name in /run/secrets.",
        file=sys.stderr,
    )
    return 0


def _list_keys(options: argparse.Namespace) -> int:
    print(*keys.table(keys.read(_key_file(options))), sep="\n")
    return 0


def _revoke_key(options: argparse.Namespace) -> int:
    revoked = keys.revoke(_key_file(options), options.id)
    print(f"{revoked.role} key {revoked.id} is revoked; a running master ends its sessions within a second", file=sys.stderr)
    return 0


def _query(options: argparse.Namespace) -> int:
    from master.history.query import answer  # noqa: PLC0415 (duckdb and pyarrow are for those who ask)

    return _told(options, lambda data: answer(data, options.sql, options.format))


def _gaps(options: argparse.Namespace) -> int:
    from master.history.query import answer_ledger  # noqa: PLC0415

    chosen = {name: getattr(options, name) for name in ("exchange", "symbol", "since", "until")}
    return _told(options, lambda data: answer_ledger(data, chosen, options.format))


def _export(options: argparse.Namespace) -> int:
    from master.history.export import choose, export  # noqa: PLC0415

    chosen = choose(options.exchange, options.symbol, options.type, options.start, options.end)

    def write(data: Path) -> None:
        files = rows = 0
        for written in export(data, options.out, options.format, chosen):
            print(written.path, flush=True)
            files, rows = files + 1, rows + written.rows
        print(f"{files} files, {rows:,} rows", file=sys.stderr)

    return _told(options, write)


def _told(options: argparse.Namespace, tell: Callable[[Path], None]) -> int:
    """What a question comes to: its answer goes to standard output, or a line of why not to standard error."""
    from master.history.query import QueryError  # noqa: PLC0415

    data = options.data if hasattr(options, "data") else _settings(options).server.data
    try:
        tell(data)
    except QueryError as error:
        print(error, file=sys.stderr)
        return FAILED
    except BrokenPipeError:  # as in `| head`: whoever reads has seen enough, and the interpreter has nothing left to flush
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _tidy(options: argparse.Namespace) -> int:
    from master.lake import expire, seal  # noqa: PLC0415
    from master.segments import segments_in  # noqa: PLC0415

    lake = options.data / "lake"
    with (options.data / "tidy.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the child of a master that was killed may still be at it
        newest = [path.name for path in segments_in(options.data / "journal")[-1:]]
        for segment in options.segments:
            if segment.name in newest:
                print(
                    f"{segment}: the newest segment stays; it has every stream's mark, and may be written to", file=sys.stderr
                )
            elif segment.exists():
                seal(segment, lake)
        oldest = datetime.now(UTC) - timedelta(days=options.days)
        expire(lake, oldest_day=oldest.strftime("%Y-%m-%d"), max_bytes=options.bytes)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""python -m collector: collect what config.json names, and hand it to the master."""

import argparse
import asyncio
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from collector import __version__

if TYPE_CHECKING:  # what takes long to load is loaded by what needs it: `health` is run every few seconds in each container
    from collector.plan import WorkerPlan
    from collector.settings import Settings

FAULTY, FAILED = 2, 1


def main(arguments: list[str] | None = None) -> int:
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.live and not options.check:
        parser.error("--live goes with --check; without them the real exchanges are collected anyway")
    return int(options.run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m collector", description="Collects market data of many exchanges.")
    parser.set_defaults(run=_main)
    parser.add_argument("--config", type=Path, default=Path("config.json"), help="the configuration (default: %(default)s)")
    parser.add_argument(
        "--exchange",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="only these of the configuration (or COLLECTOR_EXCHANGES)",
    )
    parser.add_argument(
        "--simulator", metavar="URL", type=_address, help="use the simulator there instead of the real exchanges"
    )
    parser.add_argument("--demo", action="store_true", help="no master: a live table, or JSON lines into a pipe")
    parser.add_argument("--check", action="store_true", help="check the configuration and print the plan; connect to nothing")
    parser.add_argument("--live", action="store_true", help="with --check: try each exchange")
    parser.add_argument("--pairs", metavar="EXCHANGE", help="list what this exchange trades now, and end")
    parser.add_argument("--seconds", type=float, help="end by itself after so long")
    parser.add_argument("--schema", action="store_true", help="print the JSON schema of the configuration, for editors")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(title="commands", description="(none: collect)")
    health = commands.add_parser("health", help="a line on how the running collector is; exit code 0 while it runs and answers")
    health.add_argument("--ready", action="store_true", help="exit code 0 only while nothing is missing")
    health.set_defaults(run=_health)
    status = commands.add_parser("status", help="all on how the running collector is; exit code 0 while nothing is missing")
    status.add_argument("--json", action="store_true", help="for programs")
    status.set_defaults(run=_status)
    for command in (health, status):
        command.add_argument("--config", type=Path, default=argparse.SUPPRESS, help="the collector's (default: config.json)")
    return parser


def _address(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme != "http" or not parts.netloc:
        raise argparse.ArgumentTypeError(f"must be an address such as http://127.0.0.1:9000, not {text!r}")
    return text


def _health(options: argparse.Namespace) -> int:
    from collector.status import health  # noqa: PLC0415

    code, line = health(options.config, ready=options.ready)
    print(line)
    return code


def _status(options: argparse.Namespace) -> int:
    from collector.status import look_twice, show  # noqa: PLC0415
    from master.probe import ProbeError  # noqa: PLC0415

    try:
        seen, rates = look_twice(options.config)
    except ProbeError as error:
        print(f"not up: {error}", file=sys.stderr)
        return FAILED
    if options.json:
        print(json.dumps(seen))
    else:
        show(seen, rates)
    return 0 if seen["status"] == "ok" else FAILED


def _main(options: argparse.Namespace) -> int:
    from collector.settings import json_schema, load  # noqa: PLC0415
    from master.settings import ConfigError  # noqa: PLC0415

    if options.schema:
        print(json.dumps(json_schema(), indent=2))
        return 0
    if options.pairs:
        return _pairs(options.pairs, options.simulator)
    try:
        return _run(load(options.config, options.exchange), options)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return FAULTY


def _run(settings: "Settings", options: argparse.Namespace) -> int:
    from master.log import configure  # noqa: PLC0415

    if options.check:
        return _check(settings, options)
    configure(level=logging.DEBUG if settings.debug.log else logging.INFO)
    if options.demo or settings.master.demo:
        from collector.demo import show  # noqa: PLC0415

        return _until_told(lambda stop: show(settings, options.simulator, stop), options.seconds)
    return _until_told(lambda stop: _collect(settings, options, stop), options.seconds)


def _check(settings: "Settings", options: argparse.Namespace) -> int:
    import uvloop  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415

    from collector.check import findings, plan_table  # noqa: PLC0415

    console = Console(soft_wrap=True)
    console.print(plan_table(_plan(settings)))
    if not options.live:
        return 0

    async def live() -> bool:
        is_well = True
        async for finding in findings(settings, options.simulator):
            is_well &= not finding.wrong
            console.print(
                f"[bold]{finding.name}[/] {'[red]trouble[/]' if finding.wrong else '[green]ok[/]'}", ", ".join(finding.seen)
            )
            for line in finding.wrong:
                console.print(f"  {line}", markup=False, highlight=False)
        return is_well

    return 0 if uvloop.run(live()) else FAILED


def _pairs(name: str, simulator: str | None) -> int:
    import uvloop  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415

    from adapters import registry  # noqa: PLC0415
    from collector.check import VenueError, markets, markets_table  # noqa: PLC0415

    try:
        listed = uvloop.run(markets(name, simulator))
    except (registry.UnknownExchangeError, VenueError) as error:
        print(error, file=sys.stderr)
        return FAULTY if isinstance(error, registry.UnknownExchangeError) else FAILED
    if sys.stdout.isatty():
        Console().print(markets_table(name, listed))
    else:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as other programs whose output is piped into `head`
        for each in listed:
            print(each.symbol, each.native, each.state, each.price_step or "", each.amount_step or "", sep="\t")
    return 0


def _plan(settings: "Settings", running: "Iterable[WorkerPlan]" = ()) -> "list[WorkerPlan]":
    from collector.plan import plan  # noqa: PLC0415

    return plan(settings, os.cpu_count() or 1, settings.name or socket.gethostname(), running)


def _until_told(body: Callable[[asyncio.Event], Coroutine[Any, Any, int | None]], seconds: float | None) -> int:
    """Run until SIGINT or SIGTERM, or for `seconds`."""
    import uvloop  # noqa: PLC0415

    async def run() -> int:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        if seconds is not None:
            loop.call_later(seconds, stop.set)
        return await body(stop) or 0

    return uvloop.run(run())


async def _collect(settings: "Settings", options: argparse.Namespace, stop: asyncio.Event) -> int:
    from aiohttp import web  # noqa: PLC0415

    from collector.metrics import Picture, application  # noqa: PLC0415
    from collector.reload import Reload  # noqa: PLC0415
    from collector.settings import load  # noqa: PLC0415
    from collector.spool import SpoolError, SpoolPlan, planned  # noqa: PLC0415
    from collector.supervisor import Supervisor  # noqa: PLC0415
    from collector.worker import Assignment  # noqa: PLC0415
    from master.log import logger  # noqa: PLC0415
    from master.settings import ConfigError  # noqa: PLC0415

    log = logger("collector")

    def assignment(to: "WorkerPlan", of: "Settings", spool: SpoolPlan | None) -> Assignment:
        key, record_to = of.master.key.get_secret_value(), of.server.data / "raw" if of.debug.raw else None
        to_master = (of.master.url, key, of.master.connections, of.master.ca)
        to_nats = (of.jetstream.access, of.jetstream.lanes) if of.jetstream.servers else None
        return Assignment(to, *to_master, to_nats, options.simulator, of.debug.log, record_to, spool)

    workers, spool = _plan(settings), settings.spool
    folder = spool.folder or settings.server.data / "spool"
    try:
        spools = planned(folder, [each.name for each in workers], spool.max_mb << 20, spool.fsync_ms / 1000)
    except SpoolError as error:
        raise ConfigError(f"spool.folder: {error}") from error
    supervisor = Supervisor([assignment(each, settings, spools.get(each.name)) for each in workers])
    picture = Picture(supervisor.workers, supervisor.past)
    runner = web.AppRunner(application(picture), access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.monitor.host, settings.monitor.port).start()
        log.info("collecting", exchanges=len(settings.enabled), monitor="http://{}:{}".format(*runner.addresses[0][:2]))
    except OSError as error:
        await runner.cleanup()
        raise ConfigError(
            f"monitor.port: {settings.monitor.host}:{settings.monitor.port} cannot be listened on "
            f"({error.strerror}); is a collector running already? Else choose another port"
        ) from error
    reload = Reload(
        *(options.config, settings, lambda: load(options.config, options.exchange)),
        plan=lambda fresh: (supervisor.plans, _plan(fresh, supervisor.plans)),
        apply=supervisor.change,
        roll=lambda fresh: supervisor.roll(assignment(workers[0], fresh, spools.get(workers[0].name))),
    )
    asked, renewed = asyncio.Event(), asyncio.Event()

    def renew() -> None:
        renewed.set()
        asked.set()

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, asked.set)
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR2, renew)
    reloading = asyncio.create_task(reload.run(asked, renewed))
    try:
        await supervisor.run(stop)
    finally:
        reloading.cancel()
        await runner.cleanup()
    outcome = picture.health()
    log.info("ended", acked=outcome["acked"], not_acked=outcome["waiting"])
    if not sys.stdout.isatty():
        print(json.dumps(outcome))
    return FAILED if outcome["waiting"] or any(worker.is_fenced for worker in supervisor.workers) else 0


if __name__ == "__main__":
    sys.exit(main())

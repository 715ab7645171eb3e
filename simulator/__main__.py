"""`python -m simulator`: all simulated exchanges on one port."""

import argparse
import asyncio
import contextlib
import errno
import logging
import signal
import sys

import orjson
import uvloop

from simulator.faults import GRAMMAR, parse
from simulator.registry import VENUES
from simulator.server import serve


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Read the command line; bad arguments end the program with one line and code 2."""
    parser = argparse.ArgumentParser(prog="python -m simulator", description=__doc__, epilog=f"faults: {GRAMMAR}")
    parser.add_argument("--exchange", nargs="+", action="extend", metavar="NAME", choices=tuple(VENUES), help="default: all")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=_port, default=9000, help="0 lets the system choose")
    parser.add_argument("--seed", type=int, default=1, help="the same seed gives the same markets")
    parser.add_argument("--rate", type=_rate, default=200.0, metavar="EVENTS_PER_S", help="market events of each exchange")
    parser.add_argument("--fault", nargs="+", action="extend", default=[], metavar="SPEC", help="see below")
    parser.print_usage = lambda file=None: None  # type: ignore[method-assign]  # an error is one line, not five
    options = parser.parse_args(argv)
    options.exchange = list(dict.fromkeys(options.exchange or VENUES))
    for spec in options.fault:
        try:
            parse(spec, options.exchange)
        except ValueError as error:
            parser.error(str(error))
    return options


async def run(options: argparse.Namespace) -> int:
    """Serve until a signal comes. Returns the exit code."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        async with serve(
            options.exchange,
            seed=options.seed,
            rate=options.rate,
            faults=options.fault,
            host=options.host,
            port=options.port,
        ) as simulator:
            ready = {"url": simulator.url, "exchanges": list(simulator.exchanges), "seed": simulator.seed}
            print(orjson.dumps(ready).decode(), flush=True)
            waiting = asyncio.create_task(stop.wait())
            assert simulator.clockwork is not None
            await asyncio.wait({waiting, simulator.clockwork}, return_when=asyncio.FIRST_COMPLETED)
            waiting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await waiting
    except ValueError as error:
        print(f"python -m simulator: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            print(
                f"python -m simulator: error: cannot listen on {options.host}:{options.port}: {error.strerror}", file=sys.stderr
            )
            return 2
        print(
            f"python -m simulator: error: port {options.port} on {options.host} is in use; "
            "end the program that holds it, or choose another with --port (0 lets the system choose)",
            file=sys.stderr,
        )
        return 2
    return 0


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"must be a whole number from 0 to 65535, not {text!r}")
    return int(text)


def _rate(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < float(text) <= 1e6:
            return float(text)
    raise argparse.ArgumentTypeError(f"must be a number above 0 and at most 1000000, not {text!r}")


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(name)s: %(message)s")
    sys.exit(uvloop.run(run(arguments())))

"""python -m adapters list | decode EXCHANGE FILE [--raw] [--depth N]"""

import argparse
import sys
from pathlib import Path

import orjson

from adapters import registry
from adapters.decode import decode, decode_raw, read
from adapters.errors import AdapterError


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m adapters", description="What the adapters make of exchange traffic.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the exchanges that have an adapter")
    decoding = commands.add_parser("decode", help="decode a recording: one JSON object a line, kind / ts / url / raw or b64")
    decoding.add_argument("exchange")
    decoding.add_argument("file", type=Path, help="the recording; - reads standard input")
    decoding.add_argument("--raw", action="store_true", help="what each frame itself says, with no state required")
    decoding.add_argument("--depth", type=_levels, default=20, help="levels a side of the book views (default %(default)s)")
    options = parser.parse_args(arguments)
    if options.command == "list":
        print("\n".join(registry.NAMES))
        return 0
    try:
        return _decode(options)
    except BrokenPipeError:
        raise
    except (AdapterError, UnicodeDecodeError) as error:
        print(f"{options.file}: {error}", file=sys.stderr)
    except OSError as error:
        print(f"{options.file}: {error.strerror}", file=sys.stderr)
    except registry.UnknownExchangeError as error:
        print(error, file=sys.stderr)
    return 2


def _levels(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number above 0, not {text!r}")
    return int(text)


def _decode(options: argparse.Namespace) -> int:
    adapter = registry.adapter(options.exchange)
    text = sys.stdin.read() if str(options.file) == "-" else options.file.read_text(encoding="utf-8")
    lines = read(text.removesuffix("\n").split("\n") if text else [])  # other line ends may stand inside a line's texts
    decoded = decode_raw(adapter, lines) if options.raw else decode(adapter, lines, options.depth)
    for each in decoded:
        sys.stdout.buffer.write(orjson.dumps({"line": each.line, "events": each.events, "errors": each.errors}) + b"\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BrokenPipeError:  # the reader (head, say) has seen enough
        sys.stderr.close()
        sys.exit(0)

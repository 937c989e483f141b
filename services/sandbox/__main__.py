"""`python -m services.sandbox`: the composition root. Reads the command line, loads the rows, serves until SIGTERM."""

import argparse
import asyncio
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import uvloop
from starlette.applications import Starlette
from starlette.types import ASGIApp

from services.sandbox.app import build_app, build_trace_app
from services.sandbox.rows import EXAMPLES_PATH, RecordingError, read_rows
from services.sandbox.script import Script, ScriptError, parse_script
from services.sandbox.server import serving
from services.sandbox.tokens import TokenCounter, TokenizerMissingError, find_tokenizer
from services.sandbox.traces import TraceStore

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the sandbox; return the process's exit status: 0 after a signal, 1 when it could not start."""
    arguments = _parse_arguments(argv)
    try:
        traces = None if arguments.otlp_port is None else TraceStore()
        app = build_trace_app(traces) if traces and arguments.traces_only else _build_app(arguments, traces)
        uvloop.run(_serve(app, arguments.host, arguments.port, traces, arguments.otlp_port or 0))
    except (TokenizerMissingError, RecordingError, ScriptError, OSError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1
    return 0


def _build_app(arguments: argparse.Namespace, traces: TraceStore | None) -> Starlette:
    tokenizer_path = arguments.tokenizer or find_tokenizer(os.environ, Path.home())
    return build_app(
        (row for path in arguments.recorded or [EXAMPLES_PATH] for row in read_rows(path)),
        TokenCounter(tokenizer_path).count,
        examples_mode=not arguments.recorded,
        aliases=dict(arguments.alias),
        script=Script() if arguments.script is None else _read_script(arguments.script),
        traces=traces,
    )


async def _serve(app: ASGIApp, host: str, port: int, traces: TraceStore | None, otlp_port: int) -> None:
    stop = asyncio.Event()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signal_number, stop.set)
    async with serving(app, host=host, port=port, traces=traces, otlp_port=otlp_port) as addresses:
        ready = {"event": "ready", "url": addresses.url}
        if addresses.otlp_endpoint is not None:
            ready["otlp_endpoint"] = addresses.otlp_endpoint
        print(json.dumps(ready), flush=True)
        await stop.wait()


def _read_script(path: Path) -> Script:
    try:
        return parse_script(json.loads(path.read_bytes()))
    except ScriptError as error:
        raise ScriptError(f"{path}: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ScriptError(f"{path}: not JSON") from error


def _parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m services.sandbox", description="A model provider for development and tests."
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=8090, help="HTTP port, 0 for a free one (default: %(default)s)")
    parser.add_argument(
        "--recorded",
        type=Path,
        nargs="+",
        action="extend",
        metavar="FILE",
        help="recorded answers to replay, JSON lines, plain or .gz (default: the examples that come with the sandbox)",
    )
    parser.add_argument("--script", type=Path, metavar="FILE", help="a script (JSON) to start with")
    parser.add_argument("--tokenizer", type=Path, metavar="PATH", help="a tokenizer.json to count tokens with")
    parser.add_argument("--otlp-port", type=_port, metavar="N", help="receive traces by OTLP/gRPC; 0 for a free port")
    parser.add_argument(
        "--alias",
        type=_alias,
        action="append",
        default=[],
        metavar="NAME=ROWMODEL",
        help="answer the model NAME with the rows' ROWMODEL",
    )
    parser.add_argument("--traces-only", action="store_true", help="keep traces and serve no model; needs --otlp-port")
    arguments = parser.parse_args(argv)
    if arguments.traces_only and arguments.otlp_port is None:
        parser.error("--traces-only needs --otlp-port")
    return arguments


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65_535:
        raise argparse.ArgumentTypeError(f"{port} is not a port")
    return port


def _alias(text: str) -> tuple[str, str]:
    name, _, model = text.partition("=")
    if not name or not model:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=ROWMODEL")
    return name, model


if __name__ == "__main__":
    sys.exit(main())

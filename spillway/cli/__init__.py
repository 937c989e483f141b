"""The `spillway` command. Its libraries come with the extra `cli`; without it the command says so."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

__all__ = ["main"]

NEEDED = ("httpx", "pydantic", "rich", "typer", "yaml")


def main() -> None:
    """The entry point of the `spillway` command."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        print(
            f"The spillway command needs its extra, which is not installed (missing: {', '.join(missing)}).\n"
            "Install it with:  pip install 'spillway[cli]'   (to run the services too: 'spillway[all]')",
            file=sys.stderr,
        )
        raise SystemExit(1)
    # gRPC would write a line over the live table whenever `up` starts a process; forks that execute at once need none.
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    from spillway.cli.app import app  # noqa: PLC0415 - only after its libraries are known to be there

    app()

"""Lists trained heads, puts one to use, goes back to the one before.

python -m services.classifier.heads_command list [--heads-dir DIR] [--config FILE] [--json]
python -m services.classifier.heads_command use VERSION|builtin ...
python -m services.classifier.heads_command rollback ...
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from services.classifier.head_store import BUILTIN, DEFAULT_DIRECTORY, HeadStore, HeadStoreError
from services.runtime.config import ConfigError, load

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--heads-dir", type=Path, help="default: classifier.heads_dir, else .spillway/heads")
    common.add_argument("--config", type=Path, help="spillway.yaml; default: as every service finds it")
    parser = argparse.ArgumentParser(prog="spillway heads")
    commands = parser.add_subparsers(dest="command", required=True)
    listing = commands.add_parser("list", parents=[common], help="all versions, and which is in use")
    listing.add_argument("--json", action="store_true")
    commands.add_parser("use", parents=[common], help="put a version to use").add_argument("version")
    commands.add_parser("rollback", parents=[common], help="use what was in use before")
    return parser


def _store(options: argparse.Namespace) -> HeadStore:
    if options.heads_dir:
        return HeadStore(options.heads_dir)
    configured = load(options.config).settings.classifier.heads_dir
    return HeadStore(Path(configured).expanduser() if configured else DEFAULT_DIRECTORY)


def _list(store: HeadStore, *, as_json: bool) -> None:
    current, previous, heads = store.current(), store.previous(), store.versions()
    if as_json:
        found = [{"version": head.version, "in_use": head.version == current, "card": head.card} for head in heads]
        print(json.dumps({"current": current, "previous": previous, "heads": found}))
        return
    print(f"{'':2}{'version':<28}{'date':<27}{'tiers':<26}APGR, held out")
    print(f"{'* ' if current == BUILTIN else '  '}{BUILTIN}")
    for head in heads:
        mark = "* " if head.version == current else "  "
        tiers = ", ".join(map(str, _list_of(head.card.get("tiers"))))
        print(f"{mark}{head.version:<28}{str(head.card.get('date', ''))[:26]:<27}{tiers[:25]:<26}{_apgr(head.card)}")
    if previous:
        print(f"rollback goes back to {previous}")


def _list_of(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _apgr(card: Mapping[str, Any]) -> str:
    """The figure of the cheapest tier; a dash for a card that has none."""
    try:
        found = card["figures"]["judges"][card["version"]][card["tiers"][0]]["apgr"]
        return f"{found['value']:.3f} ({found['low']:.3f} to {found['high']:.3f})"
    except (KeyError, TypeError, IndexError, ValueError):
        return "–"


def main(arguments: Sequence[str]) -> int:
    """The command."""
    options = _parser().parse_args(arguments)
    try:
        store = _store(options)
        if options.command == "list":
            _list(store, as_json=options.json)
        elif options.command == "use":
            store.use(options.version)
            print(f"{options.version} is in use")
        else:
            print(f"{store.rollback()} is in use again")
    except (HeadStoreError, ConfigError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

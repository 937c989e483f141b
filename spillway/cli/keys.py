"""`spillway keys`: makes, lists, replaces and revokes API keys in a file.

Promises: a key is printed once, alone on standard output, and kept nowhere. The file is replaced as a whole and only
its owner may read it; two commands at once wait for each other; a file that cannot be read is left as it is. Running
processes take a change over within a second.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.table import Table
from rich.text import Text

from services.runtime.config import ConfigError, load
from spillway.api_keys import (
    ID_BYTES,
    KEYS_MAX,
    SECRET_BYTES,
    ApiKey,
    KeyFileError,
    Scope,
    digest,
    make_key,
    parse_keys,
    render_keys,
)
from spillway.cli.terminal import open_console

__all__ = ["app", "parse_span"]

app = typer.Typer(help="API keys: who may call, for which tenant, for what.", no_args_is_help=True)

_MODE: Final = 0o600
_SPAN: Final = re.compile(r"(\d{1,6})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_DEFAULT_SCOPES: Final = [Scope.COMPLETE, Scope.EXPLAIN, Scope.JOBS, Scope.FEEDBACK]

File = Annotated[
    Path | None, typer.Option("--file", help="The file of keys; default: orchestrator.keys_file of the configuration.")
]
Config = Annotated[Path | None, typer.Option(help="spillway.yaml that names the file.")]
KeyId = Annotated[str, typer.Argument(help="The key's id, as `list` shows it.")]


@app.command()
def new(
    tenant: Annotated[str, typer.Option(help="Whose requests the key's are.")],
    scope: Annotated[
        list[Scope] | None, typer.Option(help="What it may do; repeatable. Default: all but admin.")
    ] = None,
    expires_in: Annotated[str, typer.Option(help="When it ends: 90d, 12h, 30m. Default: never.")] = "",
    note: Annotated[str, typer.Option(help="What it is for.")] = "",
    file: File = None,
    config: Config = None,
) -> None:
    """Make a key and print it. It cannot be shown again."""
    with _errors():
        now = _now()
        expires = now + parse_span(expires_in) if expires_in else None
        made, key = _make(tenant, frozenset(scope or _DEFAULT_SCOPES), now, expires, note)
        _edit(_path(file, config), lambda keys: [*keys, made], may_begin=True)
    _hand_out(key, f"key {made.id} of tenant {tenant}: copy it now, it is not kept anywhere")


@app.command("list")
def list_keys(file: File = None, config: Config = None) -> None:
    """Show who has keys, and until when."""
    with _errors():
        keys = _read(_path(file, config))
    table = Table("id", "tenant", "scopes", "created", "expires", "note")
    for key in keys:
        scopes = "all" if Scope.ADMIN in key.scopes else ", ".join(sorted(key.scopes))
        ends = "never" if key.expires is None else f"{key.expires:%Y-%m-%d %H:%M}"
        ends += " (over)" if key.is_expired(_now()) else ""
        table.add_row(key.id, Text(key.tenant), scopes, f"{key.created:%Y-%m-%d}", ends, Text(key.note))
    open_console().print(table)


@app.command()
def rotate(
    key_id: KeyId,
    overlap: Annotated[str, typer.Option(help="How long the old key stays good: 24h, 7d, 0s.")] = "24h",
    file: File = None,
    config: Config = None,
) -> None:
    """Make a key in the place of another, with its tenant and scopes; both are good for a while."""
    with _errors():
        now, kept_for = _now(), parse_span(overlap)
        handed: list[str] = []

        def swap(keys: Sequence[ApiKey]) -> list[ApiKey]:
            old = _find(keys, key_id)
            lasts = None if old.expires is None else now + (old.expires - old.created)
            made, key = _make(old.tenant, old.scopes, now, lasts, old.note)
            handed.append(key)
            ends = now + kept_for if old.expires is None else min(now + kept_for, old.expires)
            return [*(replace(each, expires=ends) if each is old else each for each in keys), made]

        _edit(_path(file, config), swap)
    _hand_out(handed[0], f"it takes the place of key {key_id}: copy it now, it is not kept anywhere")


@app.command()
def revoke(key_id: KeyId, file: File = None, config: Config = None) -> None:
    """Take a key out of the file: it is not good any more."""
    with _errors():
        path = _path(file, config)
        _edit(path, lambda keys: [key for key in keys if key is not _find(keys, key_id)])
    open_console(remarks=True).print(f"key {key_id} is revoked")


def parse_span(text: str) -> timedelta:
    """A time like 90d, 12h, 30m or 10s. Raises KeyFileError."""
    found = _SPAN.fullmatch(text)
    if found is None:
        raise KeyFileError(f"{text!r} is no time: 90d, 12h, 30m, 10s")
    return timedelta(**{_UNITS[found.group(2)]: int(found.group(1))})


def _make(
    tenant: str, scopes: frozenset[Scope], now: datetime, expires: datetime | None, note: str
) -> tuple[ApiKey, str]:
    key_id, key = make_key(secrets.token_bytes(ID_BYTES), secrets.token_bytes(SECRET_BYTES))
    return ApiKey(key_id, tenant, digest(key), scopes, now, expires, note), key


def _find(keys: Sequence[ApiKey], key_id: str) -> ApiKey:
    for key in keys:
        if key.id == key_id:
            return key
    raise KeyFileError(f"there is no key {key_id}")


def _path(file: Path | None, config: Path | None) -> Path:
    """The file that is meant. Raises KeyFileError, ConfigError."""
    if file is not None:
        return file
    named = load(config, os.environ).settings.orchestrator.keys_file
    if not named:
        raise KeyFileError("no file of keys: give --file, or set orchestrator.keys_file")
    return Path(named)


def _read(path: Path) -> tuple[ApiKey, ...]:
    try:
        return parse_keys(path.read_bytes())
    except FileNotFoundError:
        raise KeyFileError(f"there is no file {path}") from None
    except KeyFileError as error:
        raise KeyFileError(f"{path}: {error}") from None


def _edit(path: Path, change: Callable[[Sequence[ApiKey]], list[ApiKey]], *, may_begin: bool = False) -> None:
    """Replaces the file by one with other keys, while nobody else does."""
    with (path.parent / f".{path.name}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        keys = () if may_begin and not path.exists() else _read(path)
        changed = change(keys)
        if len(changed) > KEYS_MAX:
            raise KeyFileError(f"a file has at most {KEYS_MAX:,} keys")
        text = render_keys(changed)
        parse_keys(text)  # what cannot be read must not be written
        _replace(path.resolve(), text)


def _replace(path: Path, text: str) -> None:
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            os.fchmod(opened.fileno(), _MODE)
            opened.write(text)
            opened.flush()
            os.fsync(opened.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def _hand_out(key: str, remark: str) -> None:
    open_console(remarks=True).print(Text(remark))
    print(key)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except (KeyFileError, ConfigError, OSError) as error:
        open_console(remarks=True).print(Text(str(error), style="red"), soft_wrap=True)
        raise typer.Exit(1) from None

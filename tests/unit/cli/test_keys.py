"""`spillway keys`, as a command."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from spillway.api_keys import KeyFileError, Scope, matches, parse_keys
from spillway.cli.keys import _edit, _make, _now, app, parse_span
from tests.support.smallest import smallest_file

runner = CliRunner()


def run(path: Path, *words: str) -> Result:
    return runner.invoke(app, [*words, "--file", str(path)])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def test_a_new_key_is_printed_once_and_kept_as_a_hash(path: Path) -> None:
    result = run(path, "new", "--tenant", "acme", "--scope", "complete", "--expires-in", "90d", "--note", "shop")
    key = result.stdout.strip()
    (entry,) = parse_keys(path.read_bytes())
    assert matches(key, entry.sha256)
    assert (entry.tenant, entry.scopes, entry.note) == ("acme", frozenset({Scope.COMPLETE}), "shop")
    assert entry.expires is not None
    assert entry.expires - entry.created == timedelta(days=90)
    assert key not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    listed = run(path, "list").stdout
    assert entry.id in listed
    assert key not in listed
    assert entry.sha256 not in listed


def test_rotating_leaves_both_good_for_a_while(path: Path) -> None:
    run(path, "new", "--tenant", "acme", "--scope", "jobs")
    (old,) = parse_keys(path.read_bytes())
    key = run(path, "rotate", old.id, "--overlap", "1h").stdout.strip()
    before, after = parse_keys(path.read_bytes())
    assert before.id == old.id
    assert before.expires is not None
    assert timedelta(minutes=59) < before.expires - datetime.now(UTC) <= timedelta(hours=1)
    assert (after.tenant, after.scopes, after.expires) == (old.tenant, old.scopes, None)
    assert matches(key, after.sha256)


def test_a_revoked_key_is_gone(path: Path) -> None:
    run(path, "new", "--tenant", "a")
    run(path, "new", "--tenant", "b")
    first, second = parse_keys(path.read_bytes())
    assert run(path, "revoke", first.id).exit_code == 0
    assert parse_keys(path.read_bytes()) == (second,)


@pytest.mark.parametrize(
    "words",
    [
        ["revoke", "000000000000"],
        ["rotate", "000000000000"],
        ["new", "--tenant", ""],
        ["new", "--tenant", "a", "--expires-in", "1y"],
    ],
)
def test_what_cannot_be_done_changes_nothing(path: Path, words: list[str]) -> None:
    run(path, "new", "--tenant", "acme")
    before = path.read_bytes()
    result = run(path, *words)
    assert (result.exit_code, result.stdout) == (1, "")
    assert path.read_bytes() == before


def test_a_file_that_cannot_be_read_is_left_as_it_is(path: Path) -> None:
    path.write_text("{broken")
    assert run(path, "new", "--tenant", "acme").exit_code == 1
    assert path.read_text() == "{broken"
    assert sorted(found.name for found in path.parent.iterdir()) == [".keys.json.lock", "keys.json"]


def test_commands_at_once_lose_no_key(path: Path) -> None:
    def add(number: int) -> None:
        made, _ = _make(f"t{number}", frozenset({Scope.COMPLETE}), _now(), None, "")
        _edit(path, lambda keys: [*keys, made], may_begin=True)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(40)))
    assert sorted(key.tenant for key in parse_keys(path.read_bytes())) == sorted(f"t{number}" for number in range(40))


def test_the_configuration_names_the_file(tmp_path: Path) -> None:
    config = smallest_file(tmp_path, orchestrator={"keys_file": str(tmp_path / "keys.json")})
    assert runner.invoke(app, ["new", "--tenant", "acme", "--config", str(config)]).exit_code == 0
    assert len(parse_keys((tmp_path / "keys.json").read_bytes())) == 1


@pytest.mark.parametrize(("text", "seconds"), [("90d", 7_776_000), ("12h", 43_200), ("30m", 1_800), ("0s", 0)])
def test_spans_are_numbers_with_a_unit(text: str, seconds: int) -> None:
    assert parse_span(text) == timedelta(seconds=seconds)
    for wrong in ("", "d", "-1d", f"{text} ", "1w", "9999999d"):
        with pytest.raises(KeyFileError):
            parse_span(wrong)

"""`spillway cache`: what is refused before anything is asked, what is asked, and what a person reads."""

from __future__ import annotations

import io
import json
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

import grpc
import pytest
from rich.console import Console, RenderableType
from typer.testing import CliRunner

from spillway.cli.app import app
from spillway.cli.cache import removals_json, removals_view, stats_json, stats_view
from spillway.cli.caches import NOT_ADMITTED, CacheStats, ClassStats, Removal, Selection, ask_all, remove_from, wrong_in
from spillway.v1 import cache_pb2, cache_pb2_grpc
from tests.support import fake_services

COLUMNS = 100
KEY = "0" * 68
CLOSED = ClassStats("factual_qa", 40, 3, 37, 0, 0, 0.0003, 0.0, 0.65, None)
OPEN = ClassStats("other/a-tenant-with-a-long-name", 123_456, 61_000, 52_000, 2_900, 31, 0.0031, 0.0024, 0.0040, 0.9871)
SEEN = (
    CacheStats("127.0.0.1:50053", 250_000, 4_000, 61_003, 7, 9_000, 80, 3, 2, 11, 8_989, 14, (CLOSED, OPEN)),
    CacheStats("127.0.0.1:50153"),
    CacheStats("127.0.0.1:50253", error="unavailable"),
)


def printed(view: RenderableType) -> list[str]:
    console = Console(file=io.StringIO(), width=COLUMNS, highlight=False)
    console.print(view)
    return cast("io.StringIO", console.file).getvalue().splitlines()


def test_the_counts_say_it_all_in_a_hundred_columns() -> None:
    lines = printed(stats_view(SEEN))
    assert max(len(line) for line in lines) <= COLUMNS
    assert lines[5].split()[:6] == ["factual_qa", "40", "3", "37", "0", "0"]
    assert lines[5].rstrip().endswith("0.03 % [0.00, 65.00]  the same words")
    assert lines[6].split()[1:6] == ["123,456", "61,000", "52,000", "2,900", "31"]
    assert "0.31 % [0.24, 0.40]   P ≥ 0.987" in lines[6]
    second = next(at for at, line in enumerate(lines) if line.startswith(SEEN[1].address))
    assert "".join(line.split()[0] for line in lines[6:second]) == OPEN.name
    text = "\n".join(lines)
    assert "250,000: 4,000 the same request, 61,003 by meaning, 7 while the store was away" in text
    assert "9,000; not admitted 80 (3 of them invalidated meanwhile); dropped 2" in text
    assert "8,989 entries by meaning, in 14 partitions; evicted 11 for lack of room" in text
    assert "nothing was looked up by meaning yet" in text
    assert lines[-1] == "127.0.0.1:50253 no answer: unavailable"


def test_the_json_is_all_that_is_known() -> None:
    first, _, third = json.loads(stats_json(SEEN))["caches"]
    assert first["classes"][0]["threshold"] is None
    assert (first["classes"][1]["wrong_rate_high"], third["error"]) == (0.0040, "unavailable")
    removed = json.loads(removals_json([Removal("a:1", 2)], dry_run=True))
    assert removed == {"dry_run": True, "caches": [{"address": "a:1", "entries": 2, "error": ""}]}


def test_of_several_caches_each_says_what_became_of_it() -> None:
    assert printed(removals_view([Removal("a:1", 1)], dry_run=False)) == ["1 entry removed"]
    assert printed(removals_view([Removal("a:1", 2_000), Removal("b:1", error="unavailable")], dry_run=False)) == [
        "a:1: 2,000 entries removed",
        "b:1: unavailable; invalidate again, unless it shares a Redis with one that answered",
    ]
    for error, dry_run, said in (
        ("unavailable", False, "b:1: unavailable; invalidate again"),
        ("unavailable", True, "b:1: unavailable"),
        (NOT_ADMITTED, False, f"b:1: {NOT_ADMITTED}"),
    ):
        assert printed(removals_view([Removal("b:1", error=error)], dry_run=dry_run)) == [said]


@pytest.mark.parametrize(
    ("selection", "named"),
    [
        (Selection(), "tenant"),
        (Selection(tag="red", namespace="shop"), "tenant"),
        (Selection("t" * 129), "tenant"),
        (Selection("acme", namespace="n" * 257), "namespace"),
        (Selection("acme", template_version="v" * 257), "template_version"),
        (Selection("acme", knowledge_version="v" * 257), "knowledge_version"),
        (Selection("acme", tag="t" * 65), "tag"),
        (Selection("acme", tag=""), "tag"),
        (Selection("ac\udcffme"), "tenant"),
        (Selection(entry_key=""), "entry_key"),
        (Selection(entry_key=KEY[1:]), "entry_key"),
        (Selection("acme", entry_key="A" * 68), "entry_key"),
    ],
)
def test_what_no_cache_could_make_sense_of_is_named(selection: Selection, named: str) -> None:
    assert [name for name, _ in wrong_in(selection)] == [named]


@pytest.mark.parametrize(
    "selection",
    [
        Selection(""),
        Selection("t" * 128, "", "v" * 256, "", "t" * 64),
        Selection(entry_key="0123456789abcdef" * 4 + "abcd"),
    ],
)
def test_what_makes_sense_is_not_complained_of(selection: Selection) -> None:
    assert list(wrong_in(selection)) == []


def test_only_a_tenant_without_any_other_condition_is_all_of_it() -> None:
    assert Selection("acme").takes_all_of_a_tenant
    assert Selection("").takes_all_of_a_tenant
    assert not Selection("acme", namespace="").takes_all_of_a_tenant
    assert not Selection(entry_key=KEY).takes_all_of_a_tenant


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--tenant is needed"),
        (["--tag", "red"], "--tenant is needed"),
        (["--entry", "red"], "--entry is no key"),
        (["--tenant", "acme", "--knowledge-version", "v" * 257], "--knowledge-version must have at most 256"),
        (["--tenant", "acme"], "say --yes"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_asked(arguments: list[str], said: str) -> None:
    run = CliRunner().invoke(app, ["cache", "invalidate", "--target", "127.0.0.1:1", *arguments])
    assert run.exit_code == 2
    assert said in " ".join(run.output.replace("│", " ").split())


class FakeCache(cache_pb2_grpc.CacheServiceServicer):
    """Keeps what it is asked, and turns everybody away when `admits` is false."""

    def __init__(self, *, admits: bool = True) -> None:
        self.admits = admits
        self.asked: list[cache_pb2.InvalidateRequest] = []

    async def Lookup(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise NotImplementedError

    async def Store(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise NotImplementedError

    async def RecordEvidence(self, request: Any, context: Any) -> Any:  # noqa: N802
        raise NotImplementedError

    async def GetStats(self, request: Any, context: Any) -> cache_pb2.GetStatsResponse:  # noqa: N802
        rates = [cache_pb2.WrongRate(threshold=least, outcomes=4) for least in (0.5, 1.0, 2.0)]
        return cache_pb2.GetStatsResponse(lookups=7, wrong_rates=rates)

    async def Invalidate(self, request: Any, context: Any) -> cache_pb2.InvalidateResponse:  # noqa: N802
        if not self.admits:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "no")
        self.asked.append(request)
        return cache_pb2.InvalidateResponse(entries=5)


def serving(fake: FakeCache) -> AbstractAsyncContextManager[str]:
    return fake_services.serving(fake, cache_pb2_grpc.add_CacheServiceServicer_to_server)


async def test_each_condition_is_sent_as_it_was_said_and_no_other() -> None:
    fake = FakeCache()
    async with serving(fake) as address:
        await remove_from([address], Selection("", "", "v1", "k1", "red", KEY), dry_run=True)
        await remove_from([address], Selection("acme"), dry_run=False)
    assert fake.asked == [
        cache_pb2.InvalidateRequest(
            tenant="",
            namespace="",
            template_version="v1",
            knowledge_version="k1",
            tag="red",
            entry_key=KEY,
            dry_run=True,
        ),
        cache_pb2.InvalidateRequest(tenant="acme"),
    ]


async def test_every_cache_is_asked_and_what_keeps_one_from_it_is_said() -> None:
    async with serving(FakeCache()) as well, serving(FakeCache(admits=False)) as closed:
        done = await remove_from([closed, well, "127.0.0.1:1"], Selection("acme"), dry_run=False)
        seen = await ask_all([well, "127.0.0.1:1"])
    assert [one.entries for one in done] == [0, 5, 0]
    assert [one.error for one in done] == ["this certificate is not among tls.callers.cache", "", "unavailable"]
    assert [(one.lookups, one.error) for one in seen] == [(7, ""), (0, "unavailable")]
    assert [(one.threshold, one.outcomes) for one in seen[0].classes] == [(0.5, 4), (1.0, 4), (None, 4)]

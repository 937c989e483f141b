"""The caches of a suite, as the command sees them: what each has counted, and what is taken out of each.

Promises: a cache that does not answer in time is reported as such. Counts are asked of all at once, so it delays the
others no longer than `ASK_S_MAX`; entries are removed from one cache after the other, so that of those that share a
Redis the first one counts what was there, and the others what was left.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import grpc
import grpc.aio

from spillway.cli.channels import open_channel
from spillway.failure import read_failure
from spillway.v1 import cache_pb2, cache_pb2_grpc
from spillway.validation import LABEL_CHARS_MAX, TAG_CHARS_MAX, TENANT_CHARS_MAX

__all__ = ["NOT_ADMITTED", "CacheStats", "ClassStats", "Removal", "Selection", "ask_all", "remove_from", "wrong_in"]

ASK_S_MAX: Final = 2.0
INVALIDATE_S_MAX: Final = 30.0
"""A cache deletes for up to 2 s within the call (Redis), or in parts of up to 5 s each (a file)."""

NOT_ADMITTED: Final = "this certificate is not among tls.callers.cache"
"""The error of a cache that turned the command away: nothing happened there."""

_ENTRY_KEY: Final = re.compile(r"[0-9a-f]{68}")


@dataclass(frozen=True, slots=True)
class ClassStats:
    """What a class of partitions has counted since the cache's start. Rates are shares of its lookups, 0 to 1, with a
    95 % interval. `outcomes`: how many it has learned from. `threshold`: the least P(same answer) that is served; None
    while only the same words are."""

    name: str
    lookups: int
    hits: int
    outcomes: int
    checked: int
    wrong: int
    wrong_rate: float
    wrong_rate_low: float
    wrong_rate_high: float
    threshold: float | None


@dataclass(frozen=True, slots=True)
class CacheStats:
    """One cache since its start; with an `error` it did not answer."""

    address: str
    lookups: int = 0
    exact_hits: int = 0
    semantic_hits: int = 0
    unavailable: int = 0
    stored: int = 0
    not_admitted: int = 0
    overtaken: int = 0
    dropped: int = 0
    evicted: int = 0
    indexed_entries: int = 0
    partitions: int = 0
    classes: tuple[ClassStats, ...] = ()
    error: str = ""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which entries: all conditions that are not None must hold. Empty names are names."""

    tenant: str | None = None
    namespace: str | None = None
    template_version: str | None = None
    knowledge_version: str | None = None
    tag: str | None = None
    entry_key: str | None = None

    @property
    def conditions(self) -> Mapping[str, str]:
        """Those that are set, by name."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @property
    def takes_all_of_a_tenant(self) -> bool:
        """Whether nothing of the tenant would be left."""
        return set(self.conditions) == {"tenant"}


@dataclass(frozen=True, slots=True)
class Removal:
    """How many entries one cache removed, or would; with an `error` nobody knows."""

    address: str
    entries: int = 0
    error: str = ""


def wrong_in(selection: Selection) -> Iterator[tuple[str, str]]:
    """What no cache could make sense of: (name of the condition, what is wrong with it)."""
    conditions = selection.conditions
    if not {"tenant", "entry_key"} & set(conditions):
        yield "tenant", "is needed, unless an entry is named; '' is the tenant without a name"
    most = {"tenant": TENANT_CHARS_MAX, "tag": TAG_CHARS_MAX}
    for name, value in conditions.items():
        limit = most.get(name, LABEL_CHARS_MAX)
        if name == "entry_key":
            if not _ENTRY_KEY.fullmatch(value):
                yield name, "is no key of an entry: 68 hexadecimal digits in small letters"
        elif len(value) > limit:
            yield name, f"must have at most {limit} characters"
        elif name == "tag" and not value:
            yield name, "must not be empty"
        elif not _is_unicode(value):
            yield name, "is not UTF-8"


async def ask_all(addresses: Sequence[str]) -> tuple[CacheStats, ...]:
    """What each has counted, in the order of the addresses."""
    return tuple(await asyncio.gather(*map(_ask, addresses)))


async def remove_from(addresses: Sequence[str], selection: Selection, *, dry_run: bool) -> tuple[Removal, ...]:
    """Removes the entries from each, or only counts them, in the order of the addresses."""
    return tuple([await _remove(address, selection, dry_run=dry_run) for address in addresses])


async def _ask(address: str) -> CacheStats:
    async with open_channel(address) as channel:
        stub = cache_pb2_grpc.CacheServiceStub(channel)
        try:
            found = await stub.GetStats(cache_pb2.GetStatsRequest(), timeout=ASK_S_MAX)
        except grpc.aio.AioRpcError as error:
            return CacheStats(address, error=_sentence(error))
    return CacheStats(
        address,
        lookups=found.lookups,
        exact_hits=found.exact_hits,
        semantic_hits=found.semantic_hits,
        unavailable=found.unavailable,
        stored=found.stored,
        not_admitted=found.not_admitted,
        overtaken=found.overtaken,
        dropped=found.dropped,
        evicted=found.evicted,
        indexed_entries=found.indexed_entries,
        partitions=found.partitions,
        classes=tuple(map(_class, found.wrong_rates)),
    )


def _class(one: cache_pb2.WrongRate) -> ClassStats:
    return ClassStats(
        one.partition_class,
        lookups=one.lookups,
        hits=one.hits,
        outcomes=one.outcomes,
        checked=one.audited,
        wrong=one.wrong,
        wrong_rate=one.wrong_rate,
        wrong_rate_low=one.wrong_rate_low,
        wrong_rate_high=one.wrong_rate_high,
        threshold=one.threshold if one.threshold <= 1.0 else None,
    )


async def _remove(address: str, selection: Selection, *, dry_run: bool) -> Removal:
    request = cache_pb2.InvalidateRequest(**selection.conditions, dry_run=dry_run)
    async with open_channel(address) as channel:
        stub = cache_pb2_grpc.CacheServiceStub(channel)
        try:
            done = await stub.Invalidate(request, timeout=INVALIDATE_S_MAX)
        except grpc.aio.AioRpcError as error:
            return Removal(address, error=_sentence(error))
    return Removal(address, entries=done.entries)


def _sentence(error: grpc.aio.AioRpcError) -> str:
    """What a person reads: the service's own sentence, where it is the service that says so."""
    failure = read_failure(error)
    if failure.code is grpc.StatusCode.PERMISSION_DENIED:
        return NOT_ADMITTED
    if failure.reason and failure.message:
        fields = "; ".join(f"{path} {what}" for path, what in failure.violations)
        return f"{failure.message} ({fields})" if fields else failure.message
    return failure.code.name.lower().replace("_", " ")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

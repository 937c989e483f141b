"""An answer whose model was asked before an invalidation is not kept, over real sockets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from spillway import wire
from spillway.v1 import cache_pb2 as pb
from spillway.v1 import chat_pb2
from tests.integration.cache.served import ACME, NAMES, OFF, ON, ON_TOO, OTHER, lookup_request, store_request
from tests.support.cache_parts import answer, chat, embedding

if TYPE_CHECKING:  # exists in the type stubs alone
    from spillway.v1.cache_pb2_grpc import CacheServiceAsyncStub


@pytest.mark.parametrize("peek", [False, True])
async def test_an_answer_whose_model_was_asked_before_an_invalidation_is_not_kept(
    stub: CacheServiceAsyncStub, peek: bool
) -> None:
    await stub.Store(store_request(ON, tags=["red"]))
    asked = await stub.Lookup(lookup_request(ON, peek=peek))
    await stub.Invalidate(pb.InvalidateRequest(tenant="acme", tag="blue"))
    other = await stub.Store(store_request(ON, tags=["red"], store_token=asked.store_token))
    assert NAMES(other.outcome) == "OUTCOME_STORED"
    await stub.Invalidate(pb.InvalidateRequest(tenant="acme", tag="red"))
    late = await stub.Store(store_request(ON, tags=["red"], store_token=asked.store_token))
    assert (NAMES(late.outcome), late.reason) == ("OUTCOME_NOT_ADMITTED", "invalidated")
    again = await stub.Lookup(lookup_request(ON))
    assert again.outcome.kind == chat_pb2.CacheOutcome.KIND_MISS
    fresh = await stub.Store(store_request(ON, tags=["red"], store_token=again.store_token))
    assert NAMES(fresh.outcome) == "OUTCOME_STORED"
    stats = await stub.GetStats(pb.GetStatsRequest())
    assert (stats.stored, stats.not_admitted, stats.overtaken) == (3, 1, 1)


async def test_without_a_token_an_answer_counts_as_of_now(stub: CacheServiceAsyncStub) -> None:
    await stub.Lookup(lookup_request(ON))
    await stub.Invalidate(pb.InvalidateRequest(tenant="acme"))
    assert NAMES((await stub.Store(store_request(ON))).outcome) == "OUTCOME_STORED"


async def test_an_audits_answer_that_was_invalidated_is_not_kept_and_counts_as_evidence_all_the_same(
    stub: CacheServiceAsyncStub,
) -> None:
    await stub.Store(store_request(ON))
    await stub.Store(store_request(OFF, scope=pb.CacheScope(tenant="acme", namespace="other")))
    found = await stub.Lookup(lookup_request(ON_TOO))
    await stub.Invalidate(pb.InvalidateRequest(tenant="acme", namespace="other"))
    evidence = pb.RecordEvidenceRequest(
        scope=ACME,
        chat=wire.chat_request_to_proto(chat(ON_TOO)),
        embedding=wire.embedding_to_proto(embedding("heater")),
        task_type=OTHER,
        entry_key=found.outcome.entry_key,
        fresh_answer=wire.cached_answer_to_proto(answer()),
        store_token="era-of-old 0 0 0",
    )
    told = await stub.RecordEvidence(evidence)
    assert told.verdict == pb.RecordEvidenceResponse.VERDICT_RIGHT
    exactly = lookup_request(ON_TOO)
    exactly.ClearField("embedding")
    assert (await stub.Lookup(exactly)).outcome.kind == chat_pb2.CacheOutcome.KIND_MISS
    evidence.store_token = found.store_token
    assert (await stub.RecordEvidence(evidence)).verdict == pb.RecordEvidenceResponse.VERDICT_RIGHT
    assert (await stub.Lookup(exactly)).outcome.kind == chat_pb2.CacheOutcome.KIND_EXACT_HIT


async def test_a_token_says_nothing_of_what_is_stored(stub: CacheServiceAsyncStub) -> None:
    before = (await stub.Lookup(lookup_request(ON))).store_token
    stored = await stub.Store(store_request(ON))
    asked = [(await stub.Lookup(lookup_request(text))).store_token for text in (ON, ON_TOO, OFF)]
    assert {each.split()[:3] == before.split()[:3] for each in asked} == {True}
    assert stored.entry_key[4:] not in before
    assert "acme" not in before

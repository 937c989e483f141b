"""Audits and feedback are of the answer that was served: of another one in its place nothing is learned."""

from __future__ import annotations

from pathlib import Path

import pytest

from spillway import wire
from spillway.v1 import cache_pb2 as pb
from spillway.v1 import chat_pb2
from tests.integration.cache.served import ACME, ON, ON_TOO, OTHER, lookup_request, served, store_request
from tests.support.cache_parts import answer, chat, embedding

NAMES = pb.RecordEvidenceResponse.Verdict.Name


def evidence(found: pb.LookupResponse, fresh: str, version: str) -> pb.RecordEvidenceRequest:
    return pb.RecordEvidenceRequest(
        scope=ACME,
        chat=wire.chat_request_to_proto(chat(ON_TOO)),
        embedding=wire.embedding_to_proto(embedding("heater")),
        task_type=OTHER,
        entry_key=found.outcome.entry_key,
        fresh_answer=wire.cached_answer_to_proto(answer(fresh)),
        store_token=found.store_token,
        answer_version=version,
    )


@pytest.mark.parametrize("anew", ["as_it_was", "otherwise"])
async def test_an_audit_of_an_answer_that_was_replaced_teaches_nothing(tmp_path: Path, anew: str) -> None:
    async with served(tmp_path, {"store": "memory", "audits": {"share": 1.0}}) as stub:
        await stub.Store(store_request(ON, answer=wire.cached_answer_to_proto(answer("as_it_was"))))
        found = await stub.Lookup(lookup_request(ON_TOO))
        assert found.outcome.kind == chat_pb2.CacheOutcome.KIND_SEMANTIC_HIT
        assert found.audit
        assert found.outcome.answer_version
        await stub.Store(store_request(ON, answer=wire.cached_answer_to_proto(answer(anew))))
        told = await stub.RecordEvidence(evidence(found, "otherwise", found.outcome.answer_version))
        assert NAMES(told.verdict) == ("VERDICT_WRONG" if anew == "as_it_was" else "VERDICT_UNKNOWN")
        again = await stub.RecordEvidence(evidence(found, "otherwise", ""))
        assert NAMES(again.verdict) == ("VERDICT_UNKNOWN" if anew == "as_it_was" else "VERDICT_RIGHT")


@pytest.mark.parametrize("share", [0.0, 1.0])
async def test_a_version_says_which_answer_it_was_of_every_hit_by_meaning(tmp_path: Path, share: float) -> None:
    async with served(tmp_path, {"store": "memory", "audits": {"share": share}}) as stub:
        await stub.Store(store_request(ON, answer=wire.cached_answer_to_proto(answer("one"))))
        exact = await stub.Lookup(lookup_request(ON))
        one = await stub.Lookup(lookup_request(ON_TOO))
        await stub.Store(store_request(ON, answer=wire.cached_answer_to_proto(answer("two"))))
        two = await stub.Lookup(lookup_request(ON_TOO))
        assert one.outcome.answer_version != two.outcome.answer_version
        assert exact.outcome.answer_version == ""

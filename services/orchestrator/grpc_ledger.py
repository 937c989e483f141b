"""The ledger over gRPC: translation with spillway.wire, and what a failed call means. Protobuf stays in here.

Promises: translating a batch gives other tasks of the loop their turn every few records; what is larger than one
message may be goes in several.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import grpc
from google.protobuf.message import Message

from services.orchestrator.ledger_hop import Decided, QualityQuestion, Receipt
from services.orchestrator.record import DecisionRecord, record_to_proto
from services.runtime.errors import from_rpc_error
from spillway import wire
from spillway.routing import Feedback, Grade, MeasuredQuality
from spillway.v1 import ledger_pb2, ledger_pb2_grpc

__all__ = ["GrpcLedger"]

# A record takes about 0.2 ms: a request under way waits for no more than some 2 ms of it.
SLICE: Final = 8
# Half of what the ledger takes by default.
CALL_BYTES_MAX: Final = 4_194_304

_REFUSALS: Final = frozenset({grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.OUT_OF_RANGE})


class GrpcLedger:
    """The ledger behind a channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = ledger_pb2_grpc.LedgerServiceStub(channel)

    async def record_decisions(self, records: Sequence[DecisionRecord], *, timeout_s: float) -> Receipt:
        try:
            async with asyncio.timeout(timeout_s):
                for call in await _calls(records):
                    request = ledger_pb2.RecordDecisionsRequest(records=call)
                    await self._stub.RecordDecisions(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            return _receipt(error)
        except TimeoutError:
            return Receipt.AWAY
        except (ValueError, TypeError):  # a value that protobuf cannot hold
            return Receipt.REFUSED
        return Receipt.KEPT

    async def record_grades(self, grades: Sequence[Grade], *, timeout_s: float) -> Receipt:
        try:
            request = ledger_pb2.RecordGradesRequest(grades=[wire.grade_to_proto(grade) for grade in grades])
            await self._stub.RecordGrades(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            return _receipt(error)
        except (ValueError, TypeError):
            return Receipt.REFUSED
        return Receipt.KEPT

    async def record_feedback(
        self, feedback: Feedback, *, feedback_id: str, received_at_unix_s: float, timeout_s: float
    ) -> Decided | None:
        pb = wire.feedback_to_proto(feedback)
        pb.ClearField("retry")
        request = ledger_pb2.RecordFeedbackRequest(
            feedback=pb, feedback_id=feedback_id, received_at=wire.timestamp_to_proto(received_at_unix_s)
        )
        try:
            response = await self._stub.RecordFeedback(request, timeout=timeout_s)
        except grpc.aio.AioRpcError as error:
            raise from_rpc_error(error) from None
        try:
            return _decided(response.decision) if response.HasField("decision") else None
        except wire.WireError:  # of a later version
            return None

    async def measure_quality(self, asked: QualityQuestion, *, timeout_s: float) -> tuple[MeasuredQuality, ...] | None:
        request = ledger_pb2.MeasureQualityRequest(
            window=wire.duration_to_proto(asked.window_s),
            flagship_target=asked.flagship_target,
            judge_target=asked.judge_target,
        )
        try:
            response = await self._stub.MeasureQuality(request, timeout=timeout_s)
            return tuple(wire.measured_quality_from_proto(each) for each in response.qualities)
        except (grpc.aio.AioRpcError, wire.WireError):
            return None


async def _calls(records: Sequence[DecisionRecord]) -> list[list[ledger_pb2.DecisionRecord]]:
    """The records as messages, as many at a time as one call may hold. Raises ValueError, TypeError."""
    calls: list[list[ledger_pb2.DecisionRecord]] = [[]]
    call_bytes = 0
    for number, record in enumerate(records, start=1):
        pb = record_to_proto(record)
        size = _size(pb)
        if calls[-1] and call_bytes + size > CALL_BYTES_MAX:
            calls.append([])
            call_bytes = 0
        calls[-1].append(pb)
        call_bytes += size
        if number % SLICE == 0:
            await asyncio.sleep(0)
    return calls


def _size(pb: Message) -> int:
    """In bytes, with its length before it. Raises ValueError for one that no ledger would take."""
    size = pb.ByteSize() + 8
    if size > CALL_BYTES_MAX:
        raise ValueError("a record of this size is never kept")
    return size


def _receipt(error: grpc.aio.AioRpcError) -> Receipt:
    return Receipt.REFUSED if error.code() in _REFUSALS else Receipt.AWAY


def _decided(pb: ledger_pb2.DecisionRecord) -> Decided:
    """Raises WireError."""
    judged = pb.routing.classification
    cache = wire.cache_finding_from_proto(pb.cache)
    return Decided(
        prompt_sha256=pb.prompt_sha256,
        cluster=judged.cluster,
        task_type=wire.task_type_from_proto(judged.task_type, "task_type"),
        tier=pb.tier,
        target=pb.target,
        accepted=pb.accepted,
        cache_kind=cache.kind,
        cache_entry_key=cache.entry_key,
        answer_version=cache.answer_version,
    )

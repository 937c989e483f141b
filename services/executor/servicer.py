"""ExecutorService on the wire: protobuf in, values to the executor, protobuf out.

Promises: a plan is checked before anything is called: ranges by spillway.validation, schemas and patterns by compiling
them. It is run by the configuration that it was made by, if that is here (see `generations`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, Final

from services.executor.breaker import BreakerState
from services.executor.gates.schema import InvalidSchemaError, Schemas
from services.executor.generations import Generations
from services.executor.no_answer import NoAnswerError
from services.executor.target_health import TargetState
from services.runtime.channel import remaining_s
from services.runtime.clock import Clock
from services.runtime.errors import InvalidRequest
from spillway.chat import ChatRequest, FormatKind
from spillway.patterns import PatternError, compile_pattern
from spillway.routing import AnswerDelta, FailedExecution, Plan, RulesSpec, TaskType
from spillway.v1 import executor_pb2, executor_pb2_grpc
from spillway.validation import check_chat_request, check_plan
from spillway.wire import (
    answer_delta_to_proto,
    chat_request_from_proto,
    duration_to_proto,
    execution_to_proto,
    failed_execution_to_proto,
    plan_from_proto,
    task_type_from_proto,
)

__all__ = ["ExecutorServicer", "failed_execution_detail"]

# What is left for the answer's way back: a share of the caller's time, and at most so much.
_MARGIN_SHARE: Final = 0.05
_MARGIN_S_MAX: Final = 0.1
_DETAIL_BYTES_MAX: Final = 4_096
_BREAKER_STATES: Final = {
    BreakerState.CLOSED: executor_pb2.TargetStatus.BREAKER_STATE_CLOSED,
    BreakerState.OPEN: executor_pb2.TargetStatus.BREAKER_STATE_OPEN,
    BreakerState.HALF_OPEN: executor_pb2.TargetStatus.BREAKER_STATE_HALF_OPEN,
}


class ExecutorServicer(executor_pb2_grpc.ExecutorServiceServicer):
    """The servicer. `deadline_s` is for callers that set none."""

    def __init__(self, generations: Generations, clock: Clock, *, deadline_s: float) -> None:
        self._generations = generations
        self._clock = clock
        self._deadline_s = deadline_s

    async def Execute(self, request: executor_pb2.ExecuteRequest, context: Any) -> executor_pb2.ExecuteResponse:
        chat, plan, task_type = _checked(request, "")
        async with self._generations.of(plan.config_version) as generation:
            executor = generation.executor
            _check_schemas(chat, executor.schemas, "chat")
            with _carrying_what_was_done():
                execution = await executor.execute(chat, plan, task_type, self._time_s(context))
        return executor_pb2.ExecuteResponse(execution=execution_to_proto(execution))

    async def StreamExecute(
        self, request: executor_pb2.StreamExecuteRequest, context: Any
    ) -> AsyncIterator[executor_pb2.StreamExecuteResponse]:
        chat, plan, task_type = _checked(request.request, "request.")
        async with self._generations.of(plan.config_version) as generation:
            executor = generation.executor
            _check_schemas(chat, executor.schemas, "request.chat")
            with _carrying_what_was_done():
                async with aclosing(executor.stream(chat, plan, task_type, self._time_s(context))) as events:
                    async for event in events:
                        if isinstance(event, AnswerDelta):
                            yield executor_pb2.StreamExecuteResponse(delta=answer_delta_to_proto(event))
                        else:
                            yield executor_pb2.StreamExecuteResponse(execution=execution_to_proto(event))

    async def ListTargets(
        self, request: executor_pb2.ListTargetsRequest, context: Any
    ) -> executor_pb2.ListTargetsResponse:
        states = self._generations.current.pool.states(self._clock.monotonic())
        return executor_pb2.ListTargetsResponse(targets=[_status(state) for state in states])

    def _time_s(self, context: Any) -> float:
        left_s = remaining_s(context, self._deadline_s)
        return left_s - min(left_s * _MARGIN_SHARE, _MARGIN_S_MAX)


def _checked(request: executor_pb2.ExecuteRequest, prefix: str) -> tuple[ChatRequest, Plan, TaskType | None]:
    """The request's parts. Raises WireError, InvalidValue, SpillwayError."""
    chat = chat_request_from_proto(request.chat, f"{prefix}chat")
    plan = plan_from_proto(request.plan, f"{prefix}plan")
    task_type = task_type_from_proto(request.task_type, f"{prefix}task_type")
    check_chat_request(chat, f"{prefix}chat")
    check_plan(plan, f"{prefix}plan")
    _check_patterns(plan, f"{prefix}plan")
    return chat, plan, task_type


@contextmanager
def _carrying_what_was_done() -> Iterator[None]:
    """Packs what an execution without an answer had done into its error."""
    try:
        yield
    except NoAnswerError as error:
        error.details = (failed_execution_detail(error.failed),)
        raise


def failed_execution_detail(failed: FailedExecution) -> executor_pb2.FailedExecution:
    """At most `_DETAIL_BYTES_MAX`: without the reasons of verdicts, then the verdicts, then the last attempts."""
    pb = failed_execution_to_proto(failed)
    if pb.ByteSize() > _DETAIL_BYTES_MAX:
        for attempt in pb.attempts:
            for verdict in attempt.verdicts:
                verdict.ClearField("reason")
    if pb.ByteSize() > _DETAIL_BYTES_MAX:
        for attempt in pb.attempts:
            attempt.ClearField("verdicts")
    while pb.ByteSize() > _DETAIL_BYTES_MAX:
        del pb.attempts[-1]
    return pb


def _check_schemas(chat: ChatRequest, schemas: Schemas, path: str) -> None:
    texts = [
        (f"{path}.tools[{index}].parameters_schema_json", tool.parameters_schema_json)
        for index, tool in enumerate(chat.tools)
        if tool.parameters_schema_json
    ]
    if chat.response_format is not None and chat.response_format.kind is FormatKind.JSON_SCHEMA:
        texts.append((f"{path}.response_format.schema_json", chat.response_format.schema_json))
    violations = []
    for place, text in texts:
        try:
            schemas.compile(text)
        except InvalidSchemaError as error:
            violations.append((place, str(error)))
    if violations:
        raise InvalidRequest(violations, reason="INVALID_SCHEMA", public="a JSON Schema cannot be used")


def _check_patterns(plan: Plan, path: str) -> None:
    violations = []
    for tier_index, tier in enumerate(plan.tiers):
        for gate_index, gate in enumerate(tier.gates):
            if not isinstance(gate, RulesSpec):
                continue
            place = f"{path}.tiers[{tier_index}].gates[{gate_index}].rules"
            for name, patterns in (("must_match", gate.must_match), ("must_not_match", gate.must_not_match)):
                for index, pattern in enumerate(patterns):
                    try:
                        compile_pattern(pattern)
                    except PatternError as error:
                        violations.append((f"{place}.{name}[{index}]", str(error)))
    if violations:
        raise InvalidRequest(violations)


def _status(state: TargetState) -> executor_pb2.TargetStatus:
    breaker = state.breaker
    return executor_pb2.TargetStatus(
        target=state.target.name,
        tier=state.tier,
        model=state.target.model,
        breaker=_BREAKER_STATES[breaker.state],
        open_for=duration_to_proto(breaker.open_for_s) if breaker.state is BreakerState.OPEN else None,
        window_calls=breaker.window_calls,
        window_failures=breaker.window_failures,
        in_flight=breaker.in_flight,
        window_slow=breaker.window_slow,
        latency_average=None if state.latency_average_s is None else duration_to_proto(state.latency_average_s),
        opened_by_peer=breaker.opened_by_peer,
    )

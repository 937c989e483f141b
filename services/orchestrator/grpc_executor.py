"""The executor over gRPC: translation with spillway.wire, what a failed call means, and which lost calls are repeated.

Promises: a call that was lost with its replica (killed, cut off) is sent again, to another one, with what remains of
its time, as long as nothing of its answer has been handed on; an error that an executor said itself is never repeated.
It is sent again after a moment, since the channel may not have noticed yet that the replica's connection is gone and
give it the next call too (seen here: 10 of 40 calls); and, for the same reason, twice at most. gRPC's own retry does
that too, but only for a handful of calls at once, and every complaint of an executor uses up its tokens. An outage is
hardly multiplied: since the last answer no call under way is sent again more than twice, and no later one at all.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Final

import grpc

from services.orchestrator.hops import Again, ExecutionError
from services.runtime.errors import Internal, SpillwayError, Unavailable, from_rpc_error
from spillway import wire
from spillway.chat import ChatRequest
from spillway.failure import read_detail, read_failure
from spillway.routing import AnswerDelta, Execution, Plan, TaskType
from spillway.v1 import executor_pb2, executor_pb2_grpc

__all__ = ["GrpcExecutor", "Resends"]

_LOST: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})
_RESEND_WAITS_S: Final = (0.05, 0.25)  # before a call is sent the second and the third time
_RESEND_S_MIN: Final = 0.05  # with less time left than this nothing is sent again


class Resends:
    """Whether a call that was lost may be sent again. For one channel."""

    def __init__(self) -> None:
        self._under_way = 0
        self._since_answer = 0

    @contextmanager
    def call(self) -> Iterator[None]:
        """Around a call, all its sendings included."""
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    def answered(self) -> None:
        """An executor has answered, if only with an error."""
        self._since_answer = 0

    def permit(self) -> bool:
        """Leave to send one of the calls under way again."""
        if self._since_answer >= len(_RESEND_WAITS_S) * self._under_way:
            return False
        self._since_answer += 1
        return True


class _Sending:
    """One call, its time, and how often it was sent again. Cancelling it ends the one under way."""

    def __init__(self, resends: Resends, timeout_s: float) -> None:
        self._resends = resends
        self._loop = asyncio.get_running_loop()
        self._ends_at_s = self._loop.time() + timeout_s
        self._repeats = 0

    @property
    def remaining_s(self) -> float:
        return max(0.0, self._ends_at_s - self._loop.time())

    async def repeats(self, error: grpc.aio.AioRpcError) -> bool:
        """Whether to send it again after this error; waits until it is time for that."""
        if error.code() not in _LOST or read_failure(error).reason:
            if error.code() is not grpc.StatusCode.DEADLINE_EXCEEDED:
                self._resends.answered()
            return False
        if self._repeats == len(_RESEND_WAITS_S):
            return False
        wait_s = _RESEND_WAITS_S[self._repeats]
        if self.remaining_s < wait_s + _RESEND_S_MIN or not self._resends.permit():
            return False
        self._repeats += 1
        await asyncio.sleep(wait_s)
        return True


class GrpcExecutor:
    """The executor behind a channel."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = executor_pb2_grpc.ExecutorServiceStub(channel)
        self._resends = Resends()

    async def execute(
        self,
        chat: ChatRequest,
        plan: Plan,
        *,
        task_type: TaskType | None,
        timeout_s: float,
        again: Again | None = None,
    ) -> Execution:
        request = _execute_request(chat, plan, task_type)
        sending = _Sending(self._resends, timeout_s)
        with self._resends.call():
            while True:
                try:
                    response = await self._stub.Execute(request, timeout=sending.remaining_s)
                except grpc.aio.AioRpcError as error:
                    if not await sending.repeats(error) or (planned := await _planned(plan, again)) is None:
                        raise _executor_error(error) from error
                    request = _execute_request(chat, planned, task_type)
                else:
                    self._resends.answered()
                    return _read(response.execution)

    async def stream(
        self,
        chat: ChatRequest,
        plan: Plan,
        *,
        task_type: TaskType | None,
        timeout_s: float,
        again: Again | None = None,
    ) -> AsyncGenerator[AnswerDelta | Execution, None]:
        request = executor_pb2.StreamExecuteRequest(request=_execute_request(chat, plan, task_type))
        sending = _Sending(self._resends, timeout_s)
        begun = False
        execution: Execution | None = None
        with self._resends.call():
            while execution is None:
                call = self._stub.StreamExecute(request, timeout=sending.remaining_s)
                try:
                    async for response in call:
                        self._resends.answered()
                        if response.WhichOneof("event") == "execution":
                            execution = _read(response.execution)
                        else:
                            begun = True
                            yield _read_delta(response.delta)
                except grpc.aio.AioRpcError as error:
                    may_repeat = not begun and execution is None and await sending.repeats(error)
                    if not may_repeat or (planned := await _planned(plan, again)) is None:
                        raise _broken_off(_executor_error(error), begun=begun) from error
                    request = executor_pb2.StreamExecuteRequest(request=_execute_request(chat, planned, task_type))
                else:
                    break
                finally:
                    call.cancel()  # of no effect on a call that has ended
        if execution is None:
            raise Unavailable("STREAM_INTERRUPTED", "the stream broke off before its end", detail="no execution event")
        # Handed on after the call's own end, so that leaving early never cancels a call that was as good as done.
        yield execution


async def _planned(plan: Plan, again: Again | None) -> Plan | None:
    return plan if again is None else await again()


def _execute_request(chat: ChatRequest, plan: Plan, task_type: TaskType | None) -> executor_pb2.ExecuteRequest:
    return executor_pb2.ExecuteRequest(
        chat=wire.chat_request_to_proto(chat),
        plan=wire.plan_to_proto(plan),
        task_type=wire.task_type_to_proto(task_type),
    )


def _read(execution: executor_pb2.Execution) -> Execution:
    try:
        return wire.execution_from_proto(execution)
    except wire.WireError as error:
        raise _unreadable() from error


def _read_delta(delta: executor_pb2.AnswerDelta) -> AnswerDelta:
    try:
        return wire.answer_delta_from_proto(delta)
    except wire.WireError as error:
        raise _unreadable() from error


def _unreadable() -> SpillwayError:
    # A WireError here is the executor's fault; let through, it would be told to the caller as a wrong request.
    return Internal(detail="the executor's answer cannot be read")


def _executor_error(error: grpc.aio.AioRpcError) -> SpillwayError:
    """As the executor said it. A call that it gave up while stopping was not given up by our caller.

    The plan is ours: what is wrong with it is our defect, and nothing that the caller could mend.
    """
    if error.code() is grpc.StatusCode.CANCELLED:
        return Unavailable(detail="the executor gave up the call")
    meant = from_rpc_error(error)
    of_plan = [f"{path}: {what}" for path, what in meant.violations if _is_of_plan(path)]
    if of_plan:
        return Internal(detail=f"the executor refuses the plan: {'; '.join(of_plan)}")
    done = executor_pb2.FailedExecution()
    if not read_detail(error, done):
        return meant
    try:
        return ExecutionError(meant, wire.failed_execution_from_proto(done))
    except wire.WireError:  # of an executor of another version; its error counts all the same
        return meant


def _is_of_plan(path: str) -> bool:
    return path.removeprefix("request.").split(".", 1)[0].split("[", 1)[0] == "plan"


def _broken_off(error: SpillwayError, *, begun: bool) -> SpillwayError:
    """A connection that is lost after the first delta is an interrupted stream, whoever says so."""
    if begun and error.reason == "SERVICE_UNAVAILABLE":
        return Unavailable("STREAM_INTERRUPTED", "the stream broke off before its end", detail=error.detail)
    return error

"""Asks the small LLM through the executor: one target, one attempt, its breaker and limits with it.

Promises: a plan of one tier and one target, so never an escalation, a gate's extra call or another model; the executor
never asks the classifier, so this cannot go round in circles. Protobuf stays in here.
"""

from __future__ import annotations

import grpc

from services.classifier.small_llm_layer import AskerError, Reply
from spillway import wire
from spillway.chat import ChatRequest
from spillway.failure import read_detail
from spillway.routing import Plan, PlannedTier, Strategy, TaskType
from spillway.v1 import executor_pb2, executor_pb2_grpc

__all__ = ["GrpcAsker"]


class GrpcAsker:
    """The executor behind a channel. `tier` is the one that `target` is configured in."""

    def __init__(self, channel: grpc.aio.Channel, *, tier: str, target: str) -> None:
        self._stub = executor_pb2_grpc.ExecutorServiceStub(channel)
        self._tier = tier
        self._target = target

    async def ask(self, chat: ChatRequest, *, timeout_s: float) -> Reply:
        """As Asker says."""
        tier = PlannedTier(self._tier, (self._target,), attempt_timeout_s=timeout_s)
        plan = Plan((tier,), strategy=Strategy.DIRECT, escalations_max=0)
        request = executor_pb2.ExecuteRequest(
            chat=wire.chat_request_to_proto(chat),
            plan=wire.plan_to_proto(plan),
            task_type=wire.task_type_to_proto(TaskType.CLASSIFICATION),
        )
        try:
            response = await self._stub.Execute(request, timeout=timeout_s)
            execution = wire.execution_from_proto(response.execution)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                raise TimeoutError from error
            done = executor_pb2.FailedExecution()
            cost_nanousd = done.cost_nanousd if read_detail(error, done) else 0
            raise AskerError(error.code().name.lower(), cost_nanousd=cost_nanousd) from error
        except wire.WireError as error:
            raise AskerError("unreadable") from error
        return Reply(execution.message.text, execution.cost_nanousd)

"""Callers with one connection, to Envoy as the shipped configuration has it: calls are balanced, and none is lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from spillway.chat import ChatRequest
from spillway.client import Client
from spillway.errors import RequestError
from spillway.failure import Failure
from spillway.routing import Completion, CompletionRequest, RoutingOptions
from tests.support.callers import calling
from tests.support.cluster import Cluster
from tests.support.envoy import envoy_before
from tests.support.processes import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

CALLERS = 20
CALLS = 20


@pytest.fixture(scope="module")
def envoy(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with envoy_before(cluster, tmp_path_factory.mktemp("envoy")) as address:
        wait_until(lambda: is_serving(address), what="an orchestrator that is well, as Envoy sees it", within_s=60)
        yield address


def is_serving(address: str) -> bool:
    asked = health_pb2.HealthCheckRequest(service="spillway.v1.OrchestratorService")
    with grpc.insecure_channel(address) as channel:
        try:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            status = stub.Check(asked, timeout=5).status
        except grpc.RpcError:
            return False
    return bool(status == health_pb2.HealthCheckResponse.SERVING)


def test_the_calls_of_one_connection_go_to_every_orchestrator(cluster: Cluster, envoy: str) -> None:
    before = cluster.served("orchestrator", "Explain")
    with Client(envoy) as client:
        for _ in range(CALLS):
            client.explain("Which river flows through Rome?", timeout_s=60)
    shares = {name: (now - before[name]) / CALLS for name, now in cluster.served("orchestrator", "Explain").items()}
    assert min(shares.values()) > 0.1, shares
    assert sum(shares.values()) == pytest.approx(1.0)


def test_a_stream_passes_whole(envoy: str) -> None:
    with Client(envoy) as client:
        *deltas, completion = client.stream("Which river flows through Paris?", timeout_s=60)
    assert isinstance(completion, Completion)
    assert "".join(delta.text for delta in deltas if not isinstance(delta, Completion)) == completion.text != ""


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.complete(CompletionRequest(ChatRequest(()))),
        lambda client: client.complete("Who?", options=RoutingOptions(pinned_target="nobody")),
        lambda client: client.get_job("none"),
        lambda client: list(client.stream(CompletionRequest(ChatRequest(())))),
    ],
    ids=["a field", "a target", "a job", "a stream"],
)
def test_an_error_says_all_that_it_says_without_envoy(
    cluster: Cluster, envoy: str, ask: Callable[[Client], object]
) -> None:
    def failure(target: str) -> Failure:
        with Client(target) as client, pytest.raises(RequestError) as caught:
            ask(client)
        return caught.value.failure

    through, direct = failure(envoy), failure(cluster.target)
    assert through == direct
    assert through.reason


async def test_an_orchestrator_that_stops_and_one_that_is_killed_lose_no_call(cluster: Cluster, envoy: str) -> None:
    """The callers are those of the README: one that is lost on its way is sent again, under its request id."""
    async with calling(envoy, CALLERS, name="envoy") as callers:
        await callers.more(CALLERS)
        assert await asyncio.to_thread(cluster.processes["orchestrator-1"].stop) == 0
        await asyncio.to_thread(cluster.restart, "orchestrator-1")
        while not (await asyncio.to_thread(cluster.served, "orchestrator", "Complete"))["orchestrator-1"]:
            await callers.more(CALLERS)  # until Envoy has seen that it is back
        cluster.processes["orchestrator-2"].kill()
        await callers.more(2 * CALLERS)
        await asyncio.to_thread(cluster.restart, "orchestrator-2")
        await callers.more(CALLERS)
    print(f"{len(callers.answered)} answers, {len(callers.failures)} failures")
    assert [str(failure) for failure in callers.failures] == []

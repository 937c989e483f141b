"""Heads exchanged while callers classify: no error, and every answer is wholly of one version.

`make test-heads` runs the full count of swaps; the suite runs a short form.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import grpc
import numpy as np
import numpy.typing as npt
from opentelemetry import metrics

from services.classifier.clusters import cluster_name
from services.classifier.complexity import Classifier
from services.classifier.embedder import HashEmbedder
from services.classifier.head_follower import POLL_S, HeadFollower
from services.classifier.head_store import BUILTIN, HeadStore
from services.classifier.metrics import ClassifierMetrics
from services.classifier.servicer import ClassifierServicer
from services.classifier.startup import BUILTIN_HEAD, open_head
from services.classifier.sufficiency import SufficiencyModel, serialise_sufficiency
from services.runtime.clock import FakeClock, SystemClock
from services.runtime.config import Loaded, load
from services.runtime.server import Service, start
from spillway.settings import Limits
from spillway.v1 import chat_pb2, classifier_pb2_grpc
from spillway.v1 import classifier_pb2 as pb
from spillway.v1.classifier_pb2_grpc import add_ClassifierServiceServicer_to_server
from tests.support.router_rows import fitted, made_up

SWAPS = int(os.environ.get("SPILLWAY_HEAD_SWAPS", "12"))
CALLERS = 50
PAUSES = 20
PROMPTS = tuple(prompt for prompt, _ in made_up(20, seed=99))

Said = tuple[float, str, float]  # P(simple suffices), cluster, out of domain


class Interrupted(HashEmbedder):
    """Lets others run while it embeds, so that heads are swapped in the middle of calls."""

    async def embed(self, texts: Sequence[str], *, within_s: float | None = None) -> npt.NDArray[np.float32]:
        for _ in range(PAUSES):
            await asyncio.sleep(0)
        return await super().embed(texts, within_s=within_s)


def request(text: str) -> pb.ClassifyRequest:
    part = chat_pb2.ContentPart(text=text)
    return pb.ClassifyRequest(messages=[chat_pb2.ChatMessage(role=chat_pb2.ROLE_USER, parts=[part])])


def said(answer: chat_pb2.Classification) -> Said:
    return round(answer.sufficiency[0].probability, 9), answer.cluster, round(answer.out_of_domain, 9)


async def stored(folder: Path, models: dict[str, SufficiencyModel]) -> HeadStore:
    store = HeadStore(folder)
    for version, model in models.items():
        artifact = serialise_sufficiency(model)
        card = {"version": version, "artifact_sha256": hashlib.sha256(artifact).hexdigest()}
        await asyncio.to_thread(store.add, version, artifact, card, np.zeros(0, dtype=np.uint64))
    return store


async def expected_of(store: HeadStore, versions: list[str]) -> dict[tuple[str, str], Said]:
    """What each version alone says of each prompt."""
    vectors = await HashEmbedder().embed(PROMPTS)
    found = {}
    for version in versions:
        model = store.load(version)
        for prompt, vector in zip(PROMPTS, vectors, strict=True):
            judged = model.judge(vector, prompt)
            assert judged.cluster is not None
            # Out of the domain it is of no cluster.
            cluster = cluster_name(model.version, judged.cluster) if judged.out_of_domain < 1.0 else ""
            found[version, prompt] = round(judged.probabilities[0], 9), cluster, round(judged.out_of_domain, 9)
    return found


async def test_every_answer_names_the_one_version_it_rests_on_while_heads_are_swapped(tmp_path: Path) -> None:
    models = await asyncio.to_thread(
        lambda: {name: fitted(name, seed=seed, inverted=bool(seed % 2)) for seed, name in enumerate(("a", "b", "c"))}
    )
    store = await stored(tmp_path, models)
    expected = await expected_of(store, list(models))
    # Else a mixture would not show.
    assert all(len({expected[version, prompt] for version in models}) == len(models) for prompt in PROMPTS)

    classifier = Classifier(heuristics_confidence_min=1.0)
    classifier.attach(Interrupted(), replace(open_head(BUILTIN_HEAD), embedding_model=HashEmbedder.model_id))
    clock = FakeClock()
    follower = HeadFollower(store, classifier.use, clock)
    meter = metrics.get_meter("tests")
    counts = ClassifierMetrics(meter, ("simple", "complex"), queued=lambda: 0, remembered=lambda: 0)
    servicer = ClassifierServicer(classifier, memory=None, metrics=counts, clock=SystemClock(), deadline_s=60.0)
    loaded = load(None)
    settings = loaded.settings.model_copy(update={"limits": Limits(drain_s=0, grace_s=5)})
    server = await start(
        Service(
            name="classifier",
            register=lambda grpc_server: add_ClassifierServiceServicer_to_server(servicer, grpc_server),
            service_names=("spillway.v1.ClassifierService",),
        ),
        Loaded(settings=settings, version=loaded.version, path=loaded.path),
        "127.0.0.1:0",
    )
    follower.start()
    answers: Counter[str] = Counter()
    builtin: dict[str, Said] = {}
    stop = asyncio.Event()

    async with grpc.aio.insecure_channel(server.address) as channel:
        stub = classifier_pb2_grpc.ClassifierServiceStub(channel)

        async def ask(prompt: str) -> str:
            answer = (await stub.Classify(request(prompt), timeout=60)).classification
            version = str(answer.version)
            if version in models:
                assert said(answer) == expected[version, prompt]
            else:
                assert version == "builtin-1"
                assert answer.cluster.split("/")[0] in {"", "builtin-1"}
                assert said(answer) == builtin.setdefault(prompt, said(answer))
            answers[version] += 1
            return version

        async def call(offset: int) -> None:
            number = offset
            while not stop.is_set():
                await ask(PROMPTS[number % len(PROMPTS)])
                number += 1

        async def swap() -> None:
            order = [*models, BUILTIN]
            for number in range(SWAPS):
                wanted = order[number % len(order)]
                await asyncio.to_thread(store.use, wanted)
                clock.advance(POLL_S)
                named = "builtin-1" if wanted == BUILTIN else wanted
                while await ask(PROMPTS[number % len(PROMPTS)]) != named:
                    # The look may have come just before the swap.
                    clock.advance(POLL_S)
            stop.set()

        async with asyncio.TaskGroup() as group:
            group.create_task(swap())
            for offset in range(CALLERS):
                group.create_task(call(offset))
    await follower.close()
    await server.stop()
    assert set(answers) == {"a", "b", "c", "builtin-1"}
    print(f"{SWAPS} swaps, {sum(answers.values())} answers: {dict(answers)}")

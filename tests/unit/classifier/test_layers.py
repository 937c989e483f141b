"""The layers above the embedding: a small LLM's opinion, and what is remembered of the cluster."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from services.classifier.complexity import Classifier, Judgement
from services.classifier.embedder import EmbedderError, HashEmbedder
from services.classifier.head import Head
from services.classifier.memory import ClusterMemory
from services.classifier.small_llm_layer import AskerError, Asking, Reply, SmallLlmLayer
from services.classifier.startup import BUILTIN_HEAD, open_head
from services.runtime.clock import FakeClock
from spillway.chat import ChatRequest, Message, Role
from spillway.routing import Classification, Complexity, Layer, OutcomeSource, TaskType, TierOutcome

UNSURE = "Explain how a heat pump warms a house in winter"


@dataclass
class FakeAsker:
    reply: Reply | Exception
    asked: list[ChatRequest] = field(default_factory=list)

    async def ask(self, chat: ChatRequest, *, timeout_s: float) -> Reply:
        self.asked.append(chat)
        if isinstance(self.reply, Exception):
            raise self.reply
        return self.reply


class BrokenEmbedder(HashEmbedder):
    async def embed(self, texts: object, **_: object) -> None:  # type: ignore[override]
        raise EmbedderError


@pytest.fixture(scope="module")
def head() -> Head:
    return replace(open_head(BUILTIN_HEAD), embedding_model=HashEmbedder.model_id)


def says(complexity: Complexity, task: TaskType = TaskType.MATH, confidence: float = 1.0) -> Reply:
    return Reply(json.dumps({"complexity": complexity, "task_type": task, "confidence": confidence}), 700)


def remembering() -> ClusterMemory:
    return ClusterMemory(("simple", "medium", "complex"), half_life_s=1e6, evidence_min=5, prior_weight=10)


def built(
    head: Head | None,
    *,
    asker: FakeAsker | None = None,
    memory: ClusterMemory | None = None,
    embedder: HashEmbedder | None = None,
    confidence_max: float = 1.0,
) -> Classifier:
    clock = FakeClock()
    small_llm = (
        SmallLlmLayer(asker, clock, confidence_max=confidence_max, share_max=1.0, timeout_s=1.0) if asker else None
    )
    made = Classifier(heuristics_confidence_min=0.9, memory=memory, small_llm=small_llm, clock=clock)
    made.attach(embedder or HashEmbedder(), head)
    return made


async def judged(classifier: Classifier, text: str = UNSURE) -> Judgement:
    return await classifier.classify((Message.of(Role.USER, text),), has_tools=False, want_embedding=False)


async def found(classifier: Classifier, text: str = UNSURE) -> Classification:
    return (await judged(classifier, text)).classification


async def test_a_small_llm_decides_what_the_embedding_leaves_open(head: Head) -> None:
    below = await found(built(head))
    asker = FakeAsker(says(Complexity.COMPLEX))
    judgement = await judged(built(head, asker=asker))
    above = judgement.classification
    assert above.layer is Layer.SMALL_LLM
    assert above.probabilities[2] > below.probabilities[2]
    assert sum(above.probabilities) == pytest.approx(1.0)
    assert above.confidence == pytest.approx(max(above.probabilities))
    assert above.sufficiency[0].probability == pytest.approx(above.probabilities[0])
    assert "small LLM that says complex" in above.reason
    assert "small_llm" in {signal.name for signal in above.signals}
    assert judgement.asked is not None
    assert judgement.asked.cost_nanousd == 700
    assert judgement.times.small_llm_s is not None
    assert above.cluster == below.cluster
    assert UNSURE not in repr(above)


@pytest.mark.parametrize("reply", [AskerError("unavailable"), TimeoutError(), Reply("hard, I guess")])
async def test_when_the_small_llm_fails_the_embedding_stands_and_the_reason_says_so(
    head: Head, reply: Reply | Exception
) -> None:
    below = await found(built(head))
    above = await found(built(head, asker=FakeAsker(reply)))
    assert above.layer is Layer.EMBEDDING
    assert above.probabilities == below.probabilities
    assert above.reason.startswith(below.reason)
    assert "small LLM" in above.reason


async def test_a_sure_embedding_layer_asks_nobody(head: Head) -> None:
    asker = FakeAsker(says(Complexity.COMPLEX))
    judgement = await judged(built(head, asker=asker, confidence_max=0.01))
    assert judgement.classification.layer is Layer.EMBEDDING
    assert "small LLM" not in judgement.classification.reason
    assert judgement.asked is not None
    assert judgement.asked.asking is Asking.SURE
    assert asker.asked == []


@pytest.mark.parametrize("text", ["hello!", UNSURE])
async def test_what_the_heuristics_decide_is_not_asked_about(head: Head, text: str) -> None:
    asker = FakeAsker(says(Complexity.COMPLEX))
    judgement = await judged(built(head, asker=asker, embedder=BrokenEmbedder()), text)
    assert judgement.classification.layer is Layer.HEURISTICS
    assert asker.asked == []


async def test_a_prompt_that_was_embedded_has_a_cluster_which_names_the_head(head: Head) -> None:
    classifier = built(head)
    first, again = (await found(classifier)).cluster, (await found(classifier)).cluster
    assert first == again
    assert first.startswith("builtin-1/")
    assert (await found(classifier, "hello!")).cluster == ""


def outcome(cluster: str, *, sufficed: bool) -> TierOutcome:
    return TierOutcome(cluster, "simple", sufficed, OutcomeSource.GATES)


@pytest.mark.parametrize(("sufficed", "moves"), [(False, lambda p, q: p < q), (True, lambda p, q: p > q)])
async def test_what_became_of_a_clusters_answers_moves_its_sufficiency_and_nothing_else(
    head: Head, sufficed: bool, moves: Callable[[float, float], bool]
) -> None:
    memory = remembering()
    # HashEmbedder's space is another one: everything is far in it, unless "far" begins further off.
    classifier = built(replace(head, distance_quantiles=np.asarray([1.5, 1.8, 2.0])), memory=memory)
    before = await found(classifier)
    assert memory.record([outcome(before.cluster, sufficed=sufficed)] * 30, FakeClock().unix()) == 30
    after = await found(classifier)
    assert moves(after.sufficiency[0].probability, before.sufficiency[0].probability)
    assert [entry.probability for entry in after.sufficiency] == sorted(e.probability for e in after.sufficiency)
    assert after.sufficiency[-1].probability == 1.0
    assert after.probabilities == before.probabilities
    said = f"{30 if sufficed else 0} of 30 answers of simple sufficed in cluster {before.cluster}"
    assert said in after.reason
    assert said in [signal.evidence for signal in after.signals if signal.name == "memory"]


async def test_far_from_all_clusters_a_prompt_neither_learns_from_one_nor_tells_it(head: Head) -> None:
    memory = remembering()
    classifier = built(replace(head, distance_quantiles=np.asarray([0.1, 0.2, 0.3])), memory=memory)
    before = await found(classifier)
    assert (before.out_of_domain, before.cluster) == (1.0, "")
    every = [outcome(f"builtin-1/{index}", sufficed=True) for index in range(32)] * 150
    assert memory.record(every, FakeClock().unix()) == len(every)
    assert await found(classifier) == before


async def test_without_evidence_the_memory_is_not_mentioned(head: Head) -> None:
    plain, remembered = await found(built(head)), await found(built(head, memory=remembering()))
    assert plain == remembered

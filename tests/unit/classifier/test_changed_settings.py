"""The classifier takes over a changed ladder and changed thresholds between calls."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from services.classifier.complexity import Classifier
from services.classifier.embedder import HashEmbedder
from services.classifier.head import Head
from services.classifier.memory import ClusterMemory
from services.classifier.startup import BUILTIN_HEAD, open_head
from services.classifier.sufficiency import SufficiencyModel
from services.classifier.tiers import DEFAULT_TIERS, Tiers
from spillway.chat import Message, Role
from spillway.routing import Classification, Layer, OutcomeSource, TierOutcome, TierSufficiency
from tests.support.router_rows import fitted

TWO = Tiers(("cheap", "complex"), (0, 0, 1))
UNSURE = "Explain how a heat pump warms a house in winter"
SURE = "hi"


class HeldEmbedder(HashEmbedder):
    """Embeds when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.go_on = asyncio.Event(), asyncio.Event()

    async def embed(self, texts: Sequence[str], *, within_s: float | None = None) -> npt.NDArray[np.float32]:
        self.asked.set()
        await self.go_on.wait()
        return await super().embed(texts)


@pytest.fixture(scope="module")
def head() -> Head:
    return replace(open_head(BUILTIN_HEAD), embedding_model=HashEmbedder.model_id)


@pytest.fixture(scope="module")
def trained() -> SufficiencyModel:
    return fitted("trained")


def opened(embedder: HashEmbedder, head: Head, memory: ClusterMemory | None = None) -> Classifier:
    made = Classifier(heuristics_confidence_min=0.9, memory=memory)
    made.attach(embedder, head)
    return made


def change(classifier: Classifier, tiers: Tiers = DEFAULT_TIERS, *, confidence_min: float = 0.9) -> None:
    classifier.reconfigure(heuristics_confidence_min=confidence_min, tiers=tiers, small_llm=None)


async def judged(classifier: Classifier, text: str = UNSURE) -> Classification:
    found = await classifier.classify((Message.of(Role.USER, text),), has_tools=False, want_embedding=False)
    return found.classification


def tiers_of(found: Classification) -> list[str]:
    return [each.tier for each in found.sufficiency]


async def test_a_judgement_under_way_ends_with_the_ladder_that_it_began_with(head: Head) -> None:
    embedder = HeldEmbedder()
    classifier = opened(embedder, head)
    under_way = asyncio.create_task(judged(classifier))
    await embedder.asked.wait()
    change(classifier, TWO)
    embedder.go_on.set()
    assert tiers_of(await under_way) == ["simple", "medium", "complex"]
    assert tiers_of(await judged(classifier)) == ["cheap", "complex"]


async def test_another_bound_of_confidence_holds_from_the_next_call_on(head: Head) -> None:
    classifier = opened(HashEmbedder(), head)
    assert (await judged(classifier, UNSURE)).layer is Layer.EMBEDDING
    change(classifier, confidence_min=0.0)
    assert (await judged(classifier, SURE)).layer is Layer.HEURISTICS


async def test_a_trained_head_that_does_not_know_the_new_tiers_is_not_used_any_more(
    head: Head, trained: SufficiencyModel
) -> None:
    classifier = opened(HashEmbedder(), head)
    classifier.use(trained)
    change(classifier)
    assert (await judged(classifier)).version == "trained"
    change(classifier, Tiers(("other", "dear"), (0, 0, 1)))
    assert tiers_of(found := await judged(classifier)) == ["other", "dear"]
    assert found.version != "trained"


def test_what_was_learnt_of_a_tier_stays_with_its_name() -> None:
    memory = ClusterMemory(("simple", "medium", "complex"), half_life_s=1e6, evidence_min=1, prior_weight=1)
    memory.follow("h", 2)
    memory.record([TierOutcome("h/1", "medium", False, OutcomeSource.GATES)] * 9, 0.0)
    saved = memory.changes
    memory.retier(("medium", "complex"))
    prior = (TierSufficiency("medium", 0.5), TierSufficiency("complex", 1.0))
    adjusted, _ = memory.adjust("h/1", prior, 0.0)
    assert adjusted[0].probability == pytest.approx(0.05)
    assert memory.changes > saved
    memory.record([TierOutcome("h/1", "complex", True, OutcomeSource.GATES)], 0.0)


def test_the_same_tiers_again_are_no_change_of_the_memory() -> None:
    memory = ClusterMemory(("simple", "complex"), half_life_s=1e6, evidence_min=1, prior_weight=1)
    saved = memory.changes
    memory.retier(("simple", "complex"))
    assert memory.changes == saved

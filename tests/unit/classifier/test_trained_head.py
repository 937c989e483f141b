"""The trained head beside the built-in one: what it adds to a judgement, and when it does not."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from services.classifier.complexity import Classifier
from services.classifier.embedder import EmbedderError, HashEmbedder
from services.classifier.head import Head
from services.classifier.memory import ClusterMemory
from services.classifier.startup import BUILTIN_HEAD, open_head
from services.classifier.sufficiency import FLOOR, SufficiencyError, SufficiencyModel
from services.classifier.tiers import Tiers
from spillway.chat import Message, Role
from spillway.routing import Classification, Layer, OutcomeSource, TierOutcome
from tests.support.router_rows import fitted, made_up

UNSURE = "Explain how a heat pump warms a house in winter"


@pytest.fixture(scope="module")
def head() -> Head:
    return replace(open_head(BUILTIN_HEAD), embedding_model=HashEmbedder.model_id)


@pytest.fixture(scope="module")
def model() -> SufficiencyModel:
    return fitted("trained")


async def judged(classifier: Classifier, text: str) -> Classification:
    found = await classifier.classify((Message.of(Role.USER, text),), has_tools=False, want_embedding=False)
    return found.classification


def opened(head: Head, *, tiers: Tiers | None = None) -> Classifier:
    made = Classifier(heuristics_confidence_min=0.9) if tiers is None else Classifier(
        heuristics_confidence_min=0.9, tiers=tiers
    )  # fmt: skip
    made.attach(HashEmbedder(), head)
    return made


async def test_without_a_trained_head_sufficiency_follows_the_complexity(head: Head) -> None:
    found = await judged(opened(head), UNSURE)
    assert [each.tier for each in found.sufficiency] == ["simple", "medium", "complex"]
    simple, medium, _ = found.probabilities
    assert [each.probability for each in found.sufficiency] == pytest.approx([simple, simple + medium, 1.0])
    assert found.version == "builtin-1"


async def test_with_one_it_says_which_tier_suffices_and_leaves_the_complexity_alone(
    head: Head, model: SufficiencyModel
) -> None:
    classifier = opened(head)
    before = await judged(classifier, UNSURE)
    classifier.use(model)
    after = await judged(classifier, UNSURE)
    expected = model.judge((await HashEmbedder().embed([UNSURE]))[0], UNSURE)
    assert after.sufficiency[0].probability == pytest.approx(expected.probabilities[0])
    # It does not know the middle tier.
    assert after.sufficiency[1].probability == after.sufficiency[0].probability
    assert after.version == "trained"
    assert after.cluster == (f"trained/{expected.cluster}" if expected.out_of_domain < 1.0 else "")
    assert after.out_of_domain == pytest.approx(expected.out_of_domain)
    assert (after.complexity, after.probabilities, after.task_type) == (
        before.complexity, before.probabilities, before.task_type,
    )  # fmt: skip
    assert "trained_head" in {signal.name for signal in after.signals}
    assert "head trained says simple suffices" in after.reason
    classifier.use(None)
    assert await judged(classifier, UNSURE) == before


async def test_while_one_is_in_use_heuristics_do_not_decide_alone_that_a_tier_suffices(
    head: Head, model: SufficiencyModel
) -> None:
    classifier = opened(head)
    assert (await judged(classifier, "hello!")).layer is Layer.HEURISTICS
    classifier.use(model)
    assert (await judged(classifier, "hello!")).version == "trained"


async def test_without_a_vector_or_text_nothing_is_said_of_tiers_by_another_measure(
    head: Head, model: SufficiencyModel
) -> None:
    class Failing(HashEmbedder):
        """Never gives a vector."""

        async def embed(self, texts: object, **_: object) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
            raise EmbedderError("no")

    classifier = opened(head)
    classifier.attach(Failing(), head)
    classifier.use(model)
    found = await judged(classifier, UNSURE)
    assert (found.layer, found.version) == (Layer.HEURISTICS, "heuristics-2")
    # A threshold that was chosen for what the head says would mean something else for what complexity says.
    assert found.sufficiency == ()
    assert "as the embedding failed" in found.reason
    assert found.reason.endswith("nothing for head trained to judge")
    classifier = opened(head)
    classifier.use(model)
    blank = await judged(classifier, "   ")
    assert (blank.version, blank.sufficiency, blank.cluster) == ("heuristics-2", (), "")


async def test_a_head_that_does_not_fit_is_refused_and_the_one_in_use_stays(
    head: Head, model: SufficiencyModel
) -> None:
    classifier = opened(head)
    classifier.use(model)
    for misfit, why in (
        (replace(model, embedding_model="another"), "was trained on another"),
        (replace(model, landmarks=model.landmarks[:, :100]), "takes vectors of 100"),
        (replace(model, tiers=("weak", "strong")), "weak, strong"),
    ):
        with pytest.raises(SufficiencyError, match=why):
            classifier.use(misfit)
        assert classifier.trained is model
    with pytest.raises(SufficiencyError, match="embedding model here is none"):
        Classifier(heuristics_confidence_min=0.9).use(model)


async def test_an_embedder_that_breaks_its_word_costs_the_trained_head_alone(
    head: Head, model: SufficiencyModel
) -> None:
    class Narrow(HashEmbedder):
        """Says 384 and gives 100."""

        async def embed(self, texts: object, **_: object) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
            return np.full((1, 100), 0.1, dtype=np.float32)

    classifier = Classifier(heuristics_confidence_min=0.9)
    classifier.attach(Narrow(), None)
    classifier.use(model)
    found = await judged(classifier, UNSURE)
    assert "does not fit the embedding" in found.reason
    assert found.version == "heuristics-2"


async def test_what_sufficed_near_home_does_not_undo_the_pull_far_from_it(head: Head, model: SufficiencyModel) -> None:
    memory = ClusterMemory(("simple", "medium", "complex"), half_life_s=1e9, evidence_min=20, prior_weight=20)
    classifier = Classifier(heuristics_confidence_min=0.9, memory=memory)
    classifier.attach(HashEmbedder(), head)
    classifier.use(model)
    home, far = made_up(160, 1)[0][0], "Напиши доказательство теоремы Ферма для n=4, подробно"
    before = {text: await judged(classifier, text) for text in (home, far)}
    assert before[home].cluster.startswith("trained/")
    assert (before[far].out_of_domain, before[far].cluster) == (1.0, "")
    passes = [
        TierOutcome(f"trained/{index}", "simple", True, OutcomeSource.GATES) for index in range(len(model.centroids))
    ]
    memory.record(passes * 150, time.time())
    assert (await judged(classifier, home)).sufficiency[0].probability > before[home].sufficiency[0].probability
    assert (await judged(classifier, far)).sufficiency == before[far].sufficiency
    assert before[far].sufficiency[0].probability <= FLOOR


async def test_a_turn_that_goes_on_is_judged_with_what_it_goes_on_with(head: Head, model: SufficiencyModel) -> None:
    classifier = opened(head)
    classifier.use(model)
    chore, proof = made_up(160, 1)[0][0], made_up(160, 1)[1][0]
    found = {}
    for first in (chore, proof):
        talk = (Message.of(Role.USER, first), Message.of(Role.ASSISTANT, "Done."), Message.of(Role.USER, "And why?"))
        judgement = await classifier.classify(talk, has_tools=False, want_embedding=True)
        found[first] = judgement.classification.sufficiency[0].probability
        # What the cache compares is the last turn all the same.
        assert judgement.vector is not None
        assert judgement.vector.tolist() == (await HashEmbedder().embed(["And why?"]))[0].tolist()
        whole = f"{first}\nAnd why?"
        assert found[first] == pytest.approx(
            model.judge((await HashEmbedder().embed([whole]))[0], whole).probabilities[0], abs=1e-6
        )
    assert found[chore] > found[proof]

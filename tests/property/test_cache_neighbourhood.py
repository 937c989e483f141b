"""What near questions propose, and where their answers' centres lie, against the same in arrays, written plainly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cache.matching.neighbourhood import ALONE_MARGIN, SMOOTHING, TEMPERATURES, Near, centres, propose

nears = st.lists(
    st.builds(Near, st.sampled_from("abcd"), st.floats(-1.0, 1.0).map(lambda x: round(x, 3)), st.integers(1, 40)),
    min_size=1,
    max_size=32,
    unique_by=lambda near: near.similarity,
)


@settings(max_examples=60)
@given(nears)
def test_a_proposal_is_the_group_with_most_of_the_vote_and_its_signals(near: list[Near]) -> None:
    proposal = propose(near)
    assert proposal is not None
    order = sorted(range(len(near)), key=lambda row: -near[row].similarity)
    similarity = np.asarray([near[row].similarity for row in order])
    is_own = np.asarray([near[row].group == proposal.group for row in order])
    votes = [np.exp((similarity - similarity[0]) / t) for t in TEMPERATURES]
    groups = sorted({each.group for each in near})
    held = {g: sum(v for v, row in zip(votes[1], order, strict=True) if near[row].group == g) for g in groups}
    assert held[proposal.group] == pytest.approx(max(held.values()))
    assert proposal.rows == tuple(row for row, own in zip(order, is_own, strict=True) if own)
    assert proposal.row == proposal.rows[0]
    own, others = similarity[is_own], similarity[~is_own]
    shares = [vote[is_own].sum() / vote.sum() for vote in votes]
    firsts = {g: next(row for row in order if near[row].group == g) for g in groups}
    assert proposal.signals == pytest.approx(
        (
            *(np.log((share + SMOOTHING) / (1.0 - share + SMOOTHING)) for share in shares),
            own[0],
            own[0] - (others[0] if len(others) else similarity[-1] - ALONE_MARGIN),
            is_own.mean(),
            np.log1p(near[proposal.row].aliases),
            float(is_own[0]),
            own[:3].mean(),
            similarity[-1],
            own[-1],
            len(groups) / len(near),
            np.log1p(max((near[row].aliases for g, row in firsts.items() if g != proposal.group), default=0)),
        ),
        abs=1e-9,
    )


@settings(max_examples=40)
@given(nears, st.integers(0, 1_000))
def test_centres_are_the_means_of_the_groups_vectors(near: list[Near], seed: int) -> None:
    numbers = np.random.default_rng(seed)
    vectors = numbers.standard_normal((len(near) + 1, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    asked, rows = vectors[0], vectors[1:]
    proposal = propose(near)
    assert proposal is not None
    found = centres(asked, near, rows, proposal)
    means = {
        group: rows[[each.group == group for each in near]].mean(axis=0) for group in {each.group for each in near}
    }
    cosines = {group: float(asked @ mean / max(np.linalg.norm(mean), 1e-6)) for group, mean in means.items()}
    nearest = cosines.pop(proposal.group)
    assert found.nearest == pytest.approx(nearest, abs=1e-6)
    assert found.cohesion == pytest.approx(float(np.linalg.norm(means[proposal.group])), abs=1e-6)
    assert found.margin == pytest.approx(nearest - max(cosines.values()) if cosines else 0.1, abs=1e-6)

"""What a controller keeps: it goes on from it, and takes nothing that cannot have been one's."""

from __future__ import annotations

import io
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest

from services.cache.matching.neighbourhood import NAMES
from services.cache.matching.risk_control import Judged, RiskController, RiskPolicy, Source
from services.cache.matching.risk_state import STATE_BYTES_MAX, RiskStateError
from tests.support.risk_world import World


def test_a_restored_controller_goes_on_as_the_first_would_have() -> None:
    world, other = World(10), World(10)
    world.ask(1_500)
    other.controller.restore(world.controller.state())
    first, second = world.controller.report(), other.controller.report()
    assert (second.lookups, second.hits, second.observations) == (first.lookups, first.hits, first.observations)
    assert second.opened
    assert other.controller.decide(np.full(len(NAMES), 9.0)).serve


@pytest.mark.parametrize("data", [b"", b"PK", World(1).controller.state()[:-40]])
def test_what_is_no_state_is_refused_and_changes_nothing(data: bytes) -> None:
    world = World(11)
    world.ask(600)
    before = world.controller.report()
    with pytest.raises(RiskStateError):
        world.controller.restore(data)
    assert world.controller.report() == before


def changed(name: str, change: Callable[[np.ndarray], None], **others: Any) -> bytes:
    """A controller's state with something changed in one of its parts."""
    controller = RiskController(RiskPolicy(), Random(1))
    rng = np.random.default_rng(1)
    for number in range(300):
        judged = Judged(rng.normal(size=len(NAMES)), 0.01, "wording", 0.01, audit=True, group=f"answer {number % 20}")
        controller.observe(judged, same=bool(number % 2), source=Source.AUDIT)
    with np.load(io.BytesIO(controller.state())) as archive:
        parts = {each: archive[each] for each in archive.files}
    change(parts[name])
    stream = io.BytesIO()
    np.savez_compressed(stream, **{**parts, **others})
    return stream.getvalue()


def put(at: Any, value: Any) -> Callable[[np.ndarray], None]:
    def change(part: np.ndarray) -> None:
        part[at] = value

    return change


@pytest.mark.parametrize(
    ("name", "at", "value"),
    [
        ("outcomes", (0, 1), 12.0),
        ("outcomes", (0, 1), -1.0),
        ("outcomes", (0, 1), 1.5),
        ("outcomes", (0, 0), 0.5),
        ("guards", (0, slice(None)), (100.0, -5.0, 1.0)),
        ("guards", (0, slice(None)), (10.0, 11.0, 1.0)),
        ("guards", (0, slice(None)), (10.0, 1.0, 11.0)),
        ("guard_heard", (0, 0), 1e9),
        ("guard_heard", (0, 0), 0.5),
        ("guard_heard", (0, 1), 0.0),
        ("guard_heard", (0, 1), 4.0),
        ("features", (0, 0), 1e9),
        ("features", (0, 0), np.nan),
        ("recent_audits", (0, 1), 2.0),
        ("recent_audits", (0, 2), -1.0),
        ("counters", 0, np.inf),
        *[("counters", place, -1e-3) for place in (0, 1, 2, *range(4, 12))],
        ("counters", 3, -6.0),
        ("counters", 11, 1e10),
        ("observed", (), 299),
        ("kinds", 0, "words"),
        ("names", slice(None), NAMES[::-1]),
        ("names", 0, "vote"),
    ],
)
def test_a_state_with_a_value_out_of_range_is_refused_and_changes_nothing(name: str, at: Any, value: Any) -> None:
    controller = RiskController(RiskPolicy(), Random(1))
    before = controller.report()
    with pytest.raises(RiskStateError):
        controller.restore(changed(name, put(at, value)))
    assert controller.report() == before
    controller.restore(changed(name, lambda part: None))
    assert controller.report() != before


def test_a_state_of_a_part_of_an_observation_is_refused() -> None:
    with pytest.raises(RiskStateError):
        RiskController(RiskPolicy(), Random(1)).restore(changed("observed", lambda part: None, observed=300.5))


def test_a_state_in_which_audits_ran_ahead_is_gone_on_from() -> None:
    controller = RiskController(RiskPolicy(), Random(1))
    controller.restore(changed("counters", put(3, -4.9)))
    assert controller.report().audits > 0.0


def test_a_state_that_unpacks_to_too_much_is_refused_before_it_is_unpacked() -> None:
    stream = io.BytesIO()
    np.savez_compressed(stream, features=np.zeros((2_000_000, len(NAMES))))
    assert len(stream.getvalue()) < STATE_BYTES_MAX
    with pytest.raises(RiskStateError, match="unpack to too much"):
        RiskController(RiskPolicy(), Random(1)).restore(stream.getvalue())

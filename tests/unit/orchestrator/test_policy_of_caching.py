"""What the policy says of the cache and of the judgement: which answers may be served, and which is asked first."""

from __future__ import annotations

from typing import Any

import pytest

from services.orchestrator.policy.policy import Policy
from spillway.routing import CacheMode
from tests.unit.orchestrator.ladder import request_of, settings_of
from tests.unit.orchestrator.policies import FREE, MATHS, POLICY, PRIVATE, VIP


@pytest.mark.parametrize(
    ("asked", "ruled", "enabled", "mode"),
    [
        (None, None, True, CacheMode.USE),
        (CacheMode.REFRESH, None, True, CacheMode.REFRESH),
        (CacheMode.USE, "bypass", True, CacheMode.BYPASS),
        (CacheMode.BYPASS, "use", True, CacheMode.BYPASS),
        (CacheMode.REFRESH, "use", True, CacheMode.REFRESH),
        (CacheMode.USE, None, False, CacheMode.BYPASS),
    ],
)
def test_of_two_cache_modes_the_stricter_holds(
    asked: CacheMode | None, ruled: str | None, enabled: bool, mode: CacheMode
) -> None:
    rules = [{"name": "r", "when": {}, "then": {"cache_mode": ruled}}] if ruled else []
    policy = Policy(settings_of(policy={"rules": rules}, cache={"enabled": enabled}))
    assert policy.open(request_of(cache_mode=asked)).cache_mode is mode


def test_an_answer_from_the_cache_must_be_one_that_the_route_allows() -> None:
    policy = Policy(settings_of(policy=POLICY))
    plain = policy.open(request_of())
    assert not plain.objection("simple", "simple-1", None)
    assert not plain.objection("retired", "retired-1", None)
    floored = policy.open(request_of(tier_floor="medium"))
    assert floored.objection("simple", "simple-1", None)
    assert floored.objection("retired", "retired-1", None)
    assert not floored.objection("complex", "complex-1", None)
    assert policy.open(request_of(tier_ceiling="medium")).objection("complex", "complex-1", None)
    assert policy.open(request_of(pinned_target="medium-1")).objection("medium", "medium-2", None)
    assert policy.open(request_of(endpoint="alarm")).objection("medium", "medium-1", None)


@pytest.mark.parametrize(
    ("asked", "score", "served"),
    [
        (None, None, True),
        (None, 0.1, True),
        (0.0, None, True),
        (0.9, 0.9, True),
        (0.9, 0.89, False),
        (0.9, None, False),
    ],
)
def test_an_answer_from_the_cache_must_have_the_score_that_is_asked_for(
    asked: float | None, score: float | None, served: bool
) -> None:
    opening = Policy(settings_of(policy=POLICY)).open(request_of(confidence_min=asked))
    objection = opening.objection("simple", "simple-1", score)
    assert (objection == "") is served
    assert served or "asks for 0.9" in objection


def test_a_judged_rule_that_may_limit_the_cache_asks_for_the_judgement_first() -> None:
    hard = {"name": "hard", "when": {"complexity": ["complex"]}, "then": {"start_tier": "complex"}}
    assert not Policy(settings_of(policy={"rules": [hard]})).open(request_of()).judge_first
    policy = Policy(settings_of(policy={"rules": [hard, PRIVATE]}))
    assert not policy.open(request_of()).judge_first
    private = policy.open(request_of(tags=("private",)))
    assert private.judge_first
    assert private.needs_judgement
    assert Policy(settings_of(policy={"rules": [MATHS]})).open(request_of()).judge_first


@pytest.mark.parametrize(
    ("fields", "needed"),
    [
        ({}, True),
        ({"pinned_target": "simple-1"}, False),
        ({"endpoint": "alarm"}, False),
        ({"user_tier": "vip"}, False),
        ({"user_tier": "free"}, True),
    ],
)
def test_a_judgement_is_needed_only_where_it_decides(fields: dict[str, Any], needed: bool) -> None:
    policy = {"bypass_endpoints": ["alarm"], "rules": [VIP, FREE]}
    assert Policy(settings_of(policy=policy)).open(request_of(**fields)).needs_judgement is needed


def test_deciding_without_the_judgement_that_is_needed_is_a_defect_of_the_caller() -> None:
    with pytest.raises(ValueError, match="needs a judgement"):
        Policy(settings_of()).decide(request_of())

"""Rules that can never match or contradict themselves, and names that do not exist: errors of the file, all at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from services.runtime.config import ConfigError, load
from spillway.configuration.document import Problem, parse
from spillway.configuration.references import check

BASE = """\
providers:
  p: {base_url: "http://127.0.0.1:1/v1"}
tiers:
  - name: simple
    targets:
      - {name: a, provider: p, model: m, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}}
  - name: medium
    targets:
      - {name: b, provider: p, model: m, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}}
  - name: complex
    targets:
      - {name: c, provider: p, model: m, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 2}}
"""


def problems_of(folder: Path, more: dict[str, Any]) -> dict[str, str]:
    """Messages by path; empty for a good file."""
    path = folder / "spillway.yaml"
    path.write_text(BASE + yaml.safe_dump(more, sort_keys=False, default_flow_style=False))
    found: list[Problem] = []
    try:
        load(path, {})
    except ConfigError as error:
        found += error.problems
    assert all(problem.line for problem in found)
    return {problem.path: problem.message for problem in found}


def rules_of(*whens: dict[str, Any], then: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"policy": {"rules": [{"name": f"r{n}", "when": w, "then": then or {}} for n, w in enumerate(whens)]}}


def test_a_policy_that_goes_by_what_the_ledger_measured_needs_the_ledger(tmp_path: Path) -> None:
    cost_aware: dict[str, Any] = {"policy": {"cost_aware": {}}}
    assert problems_of(tmp_path, cost_aware) == {}
    assert problems_of(tmp_path, {**cost_aware, "ledger": {"enabled": False}}) == {
        "policy.cost_aware": "needs ledger.enabled: the ledger measures how good targets are"
    }
    assert problems_of(tmp_path, {"ledger": {"enabled": False}}) == {}


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("a:6379", "must begin with redis://, rediss://, unix://"),
        ("redis+sentinel://a:1", "must end with /NAME"),
        ("redis+sentinel://a:1,b/main", ""),
        ("redis://a/0?ssl_ca_certs=/ca.crt", "certificates need a URL that begins with rediss://"),
        ("rediss://a/0?ssl_ca_certs=/ca.crt", ""),
        ("unix:///run/redis.sock", ""),
        ("redis://u:pw@a/0", "must not contain a password"),
        ("redis+sentinel://u:p/w@a/main", "must not contain a password"),
        ("redis://a:bad/0", "each host must be HOST"),
        ("redis://a/0?password=pw", "after ? only"),
    ],
)
def test_a_redis_that_could_not_be_opened_is_an_error_of_the_file(tmp_path: Path, url: str, why: str) -> None:
    found = problems_of(tmp_path, {"orchestrator": {"redis_url": url}, "executor": {"share_redis_url": url}})
    assert set(found) == ({"orchestrator.redis_url", "executor.share_redis_url"} if why else set())
    assert all(message.startswith(why) for message in found.values())


def test_a_cluster_is_for_what_lies_in_one_slot_and_for_the_cache(tmp_path: Path) -> None:
    url = "redis+cluster://a,b:7001"
    found = problems_of(
        tmp_path,
        {
            "orchestrator": {"redis_url": url},
            "executor": {"share_redis_url": url},
            "cache": {"store": "redis", "redis_url": url},
        },
    )
    assert found == {
        "orchestrator.redis_url": "cannot be a cluster: name sentinels (redis+sentinel://), or a server of its own"
    }


OFFICE = {"days": ["mon", "tue"], "start": "09:00", "end": "17:00"}
NIGHT = {"start": "22:00", "end": "06:00"}

COVERED: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"tags": ["a"]}, {"tags": ["a"]}),
    ({"tags": ["a", "b"]}, {"tags": ["b"], "has_tools": True}),
    ({"keywords": ["Invoice", "bill"]}, {"keywords": ["invoice"]}),
    ({"user_tier": ["free", "trial"]}, {"user_tier": ["trial"]}),
    ({"endpoint": ["support/*"]}, {"endpoint": ["support/chat", "support/mail/*"]}),
    ({"task_type": ["math", "code"]}, {"task_type": ["code"], "complexity": ["simple"]}),
    ({"complexity": ["simple", "medium", "complex"]}, {"tags": ["a"]}),
    ({"input_chars_min": 100}, {"input_chars_min": 200, "input_chars_max": 300}),
    ({"input_tokens_max": 100}, {"input_chars_max": 400}),
    ({"input_chars_min": 397}, {"input_tokens_min": 100}),
    ({"messages_min": 1}, {"has_code": True}),
    ({"messages_min": 2}, {"messages_min": 3}),
    ({"time": {"start": "08:00", "end": "18:00"}}, {"time": OFFICE}),
    ({"time": NIGHT}, {"time": {"start": "23:00", "end": "02:00"}}),
    ({"time": {}}, {"has_images": True}),
    ({"any_of": [{"tags": ["a"]}, {"has_tools": True}]}, {"has_tools": True, "user_tier": ["x"]}),
    ({"any_of": [{"tags": ["a"]}, {"has_tools": True}]}, {"any_of": [{"has_tools": True}, {"tags": ["a"]}]}),
    ({"none_of": [{"tags": ["a"]}]}, {"none_of": [{"tags": ["a", "b"]}]}),
    ({"none_of": [{"has_tools": True}]}, {"has_tools": False}),
    ({"none_of": [{"complexity": ["simple"]}]}, {"complexity": ["medium", "complex"]}),
    ({"has_tools": True}, {"any_of": [{"has_tools": True}], "tags": ["a"]}),
    ({"none_of": [{"none_of": [{"tags": ["a"]}]}]}, {"tags": ["a"]}),
]
APART: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"tags": ["b"]}, {"tags": ["a", "b"]}),
    ({"tags": ["a"], "has_tools": True}, {"tags": ["a"]}),
    ({"keywords": ["invoice"]}, {"keywords": ["invoices"]}),
    ({"endpoint": ["support"]}, {"endpoint": ["support/*"]}),
    ({"endpoint": ["support/*"]}, {"endpoint": ["sup*"]}),
    ({"input_chars_min": 100}, {"input_chars_min": 99}),
    ({"input_tokens_max": 100}, {"input_chars_max": 401}),
    ({"input_chars_min": 398}, {"input_tokens_min": 100}),
    ({"time": OFFICE}, {"time": {"start": "09:00", "end": "17:00"}}),
    ({"time": OFFICE}, {"time": {**OFFICE, "timezone": "Europe/Berlin"}}),
    ({"complexity": ["simple", "medium"]}, {"tags": ["a"]}),
    ({"language": ["de"]}, {"none_of": [{"language": ["en"]}]}),
    ({"any_of": [{"tags": ["a"]}, {"has_tools": True}]}, {"has_images": True}),
    ({"none_of": [{"tags": ["a", "b"]}]}, {"none_of": [{"tags": ["a"]}]}),
]


@pytest.mark.parametrize(("first", "second"), COVERED)
def test_a_rule_that_an_earlier_one_leaves_nothing_is_an_error(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any]
) -> None:
    found = problems_of(tmp_path, rules_of(first, second))
    assert list(found) == ["policy.rules[1]"]
    assert found["policy.rules[1]"].startswith("can never match: rule 'r0' in line 1")


@pytest.mark.parametrize(("first", "second"), APART)
def test_a_rule_that_may_yet_match_is_none(tmp_path: Path, first: dict[str, Any], second: dict[str, Any]) -> None:
    assert problems_of(tmp_path, rules_of(first, second)) == {}


@pytest.mark.parametrize(
    ("whens", "is_error"),
    [
        ([{"has_tools": True}, {"has_tools": False}, {"tags": ["a"]}], True),
        ([{"has_tools": True}, {"has_images": False}, {"tags": ["a"]}], False),
        ([{"tags": ["a"]}, {"tags": ["b"]}, {"tags": ["a", "b"], "has_code": True}], True),
        ([{"user_tier": ["a"]}, {"user_tier": ["b"]}, {"user_tier": ["b", "a"]}], True),
        ([{"user_tier": ["a"]}, {"user_tier": ["b"]}, {"user_tier": ["b", "c"]}], False),
        ([{"complexity": ["simple"]}, {"complexity": ["medium", "complex"]}, {"task_type": ["math"]}], True),
        ([{"input_chars_max": 99}, {"input_tokens_min": 25}, {"has_tools": True}], True),
        ([{"input_chars_max": 96}, {"input_tokens_min": 26}, {"has_tools": True}], False),
        ([{"has_tools": True, "tags": ["a"]}, {"has_tools": False}, {"tags": ["a", "b"]}], False),
        ([{"tags": ["a"]}, {"has_tools": True}, {"any_of": [{"tags": ["a"]}, {"has_tools": True}]}], True),
    ],
)
def test_a_rule_that_all_earlier_ones_together_leave_nothing_is_an_error(
    tmp_path: Path, whens: list[dict[str, Any]], is_error: bool
) -> None:
    found = problems_of(tmp_path, rules_of(*whens))
    assert list(found) == (["policy.rules[2]"] if is_error else [])


@pytest.mark.parametrize(
    ("when", "place"),
    [
        ({"input_chars_min": 2, "input_chars_max": 1}, "input_chars_max"),
        ({"input_tokens_min": 2, "input_tokens_max": 1}, "input_tokens_max"),
        ({"input_tokens_min": 100, "input_chars_max": 100}, ""),
        ({"input_tokens_max": 10, "input_chars_min": 41}, ""),
        ({"keywords": ["a word of thirty characters"], "input_chars_max": 3}, ""),
        ({"keywords": [""]}, "keywords[0]"),
        ({"time": {"start": "09:00", "end": "09:00"}}, "time.end"),
        ({"time": {"end": "00:00"}}, "time.end"),
        ({"time": {"timezone": "Mars/Olympus"}}, "time.timezone"),
        ({"any_of": [{"time": {"timezone": "Mars"}}]}, "any_of[0].time.timezone"),
        ({"any_of": [{"input_chars_min": 2, "input_chars_max": 1}, {}]}, "any_of[0].input_chars_max"),
        ({"tags": ["a"], "none_of": [{"tags": ["a", "b"]}]}, "none_of"),
        ({"none_of": [{}]}, "none_of"),
        ({"has_tools": True, "any_of": [{"has_tools": False}]}, "any_of"),
        ({"any_of": [{"tags": ["a"]}], "none_of": [{"tags": ["a"]}]}, "none_of"),
        ({"user_tier": ["a"], "any_of": [{"user_tier": ["b"]}, {"user_tier": ["c"]}]}, "any_of"),
        ({"endpoint": ["a/*"], "any_of": [{"endpoint": ["b"]}]}, "any_of"),
        ({"time": OFFICE, "any_of": [{"time": {"days": ["sat"]}}]}, "any_of"),
        ({"none_of": [{"complexity": ["simple"]}, {"complexity": ["medium", "complex"]}], "tags": ["a"]}, "none_of"),
    ],
)
def test_a_condition_that_can_never_hold_is_an_error_where_it_stands(
    tmp_path: Path, when: dict[str, Any], place: str
) -> None:
    found = problems_of(tmp_path, rules_of(when))
    assert list(found) == [f"policy.rules[0].when{'.' if place else ''}{place}"]


@pytest.mark.parametrize(
    ("then", "places"),
    [
        ({"target": "b", "tier_floor": "medium", "tier_ceiling": "medium"}, []),
        ({"target": "a", "tier_floor": "medium"}, ["target"]),
        ({"target": "c", "tier_ceiling": "medium"}, ["target"]),
        ({"start_tier": "simple", "tier_floor": "medium"}, ["start_tier"]),
        ({"start_tier": "complex", "tier_ceiling": "medium"}, ["start_tier"]),
        ({"start_tier": "medium", "tiers": ["simple", "complex"]}, ["start_tier"]),
        ({"start_tier": "complex", "tiers": ["simple", "complex"]}, []),
        ({"target": "b", "start_tier": "medium"}, ["start_tier"]),
        ({"target": "b", "tiers": ["medium"]}, ["tiers"]),
        ({"target": "b", "strategy": "race"}, ["strategy"]),
        ({"target": "b", "strategy": "direct"}, []),
        ({"gates": []}, []),
        ({"gates": [{"kind": "judge", "target": "z"}]}, ["gates[0].target"]),
        ({"gates": [{"kind": "agreement", "second_target": "c"}]}, []),
        ({"gates": [{"kind": "agreement", "second_target": "z"}]}, ["gates[0].second_target"]),
        ({"gates": [{"kind": "rules", "must_match": ["("]}]}, ["gates[0].must_match[0]"]),
    ],
)
def test_actions_that_contradict_each_other_are_errors(tmp_path: Path, then: dict[str, Any], places: list[str]) -> None:
    found = problems_of(tmp_path, rules_of({"tags": ["a"]}, then=then))
    assert list(found) == [f"policy.rules[0].then.{place}" for place in places]


def test_all_of_it_is_said_at_once_with_names_that_do_not_exist(tmp_path: Path) -> None:
    rules = rules_of({"tags": ["a"]}, {"tags": ["a"]}, {"has_tools": True, "none_of": [{"has_tools": True}]})["policy"]
    policy = {**rules, "rollout": {"baseline": "x"}, "specialists": {"math": "y", "code": "b"}}
    found = problems_of(tmp_path, {"policy": policy, "canary": {"judge": "z"}})
    assert set(found) == {
        "policy.rules[1]",
        "policy.rules[2].when.none_of",
        "policy.rollout.baseline",
        "policy.specialists.math",
        "canary.judge",
    }
    assert found["policy.specialists.math"] == "there is no target 'y'"


@pytest.mark.parametrize(
    "value",
    [None, 1, "x", [], {}, [1], [[]], {"a": []}, [{"when": 1, "then": []}], [{"when": {"any_of": 3, "time": 4}}]],
)
def test_data_of_any_shape_is_read(value: Any) -> None:
    for data in ({"policy": value}, {"policy": {"rules": value, "rollout": value, "specialists": value}}):
        document = parse(yaml.safe_dump({"tiers": value, **data}).encode(), {})
        check(document)
    odd = {"target": value, "tiers": value, "strategy": value, "start_tier": value, "gates": value, "tier_floor": value}
    document = parse((BASE + yaml.safe_dump(rules_of({"tags": ["a"]}, then=odd))).encode(), {})
    check(document)


def test_a_file_of_which_nothing_can_be_proven_in_bounded_work_is_good(tmp_path: Path) -> None:
    alternatives = [{"tags": [f"t{n}", f"u{n}"], "has_tools": bool(n % 2)} for n in range(16)]
    whens = [
        {"any_of": alternatives, "none_of": alternatives[:-1], "keywords": [f"w{n}"], "input_chars_max": 1_000 + n}
        for n in range(40)
    ]
    assert problems_of(tmp_path, rules_of(*whens)) == {}

"""The cache learns from answers what it may serve, through every service: nothing before evidence, few wrong after."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import pytest

from spillway.client import Client
from spillway.routing import CacheKind, TaskType
from tests.support.suite import LADDER, Suite

VERBS = ("clean", "repair", "paint", "turn on", "turn off")
NOUNS = ("kettle", "bicycle", "curtain", "violin", "lantern")
OPENINGS = ("How do I", "How can I", "What is the best way to", "How should I", "How does one")
CLOSINGS = ("", " properly", " safely", " quickly", " by myself", " the right way")
LIMIT = 0.05
ALL_KINDS = [kind.value for kind in TaskType]


def questions() -> list[tuple[str, str]]:
    """Every question, and its right answer."""
    return [
        (f"{opening} {verb} a {noun}{closing}?", f"{verb}_{noun}".replace(" ", "_"))
        for verb, noun, opening, closing in product(VERBS, NOUNS, OPENINGS, CLOSINGS)
    ]


def recorded(folder: Path) -> Path:
    path = folder / "recorded.jsonl"
    with path.open("w") as file:
        for number, (text, right) in enumerate(questions()):
            told = {"text": f"{right}\nCONFIDENCE: 5", "parsed": right, "correct": True}
            row = {"id": str(number), "task": "t", "prompt": text, "gold": right}
            file.write(json.dumps(row | {"answers": dict.fromkeys(("small-1", "small-2", "large-1"), told)}) + "\n")
    return path


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    folder = tmp_path_factory.mktemp("suite")
    config: dict[str, Any] = LADDER | {
        "cache": {
            "max_wrong_rate": LIMIT,
            "semantic_task_types": ALL_KINDS,
            "audits": {"share": 0.2, "per_minute_max": 10_000},
        }
    }
    with Suite(folder, config=config, sandbox_args=("--recorded", str(recorded(folder)))) as suite:
        yield suite


@pytest.mark.slow
def test_hits_begin_with_evidence_and_wrong_ones_stay_few(suite: Suite) -> None:
    asked = questions()
    Random(1).shuffle(asked)
    hits = wrong = first_hit = 0
    with Client(suite.target) as client:
        for number, (text, right) in enumerate(asked, 1):
            completion = client.complete(text)
            if completion.cache.kind is not CacheKind.SEMANTIC_HIT:
                assert completion.text.strip() == right
                continue
            first_hit = first_hit or number
            hits += 1
            wrong += completion.text.strip() != right
            for one, other in (("turn_on", "turn_off"), ("turn_off", "turn_on")):
                assert not (right.startswith(one) and completion.text.startswith(other))
    print(f"{hits} hits, {wrong} wrong, the first at {first_hit} of {len(asked)}")
    assert first_hit > 150
    assert hits > 100
    assert wrong <= LIMIT * len(asked)

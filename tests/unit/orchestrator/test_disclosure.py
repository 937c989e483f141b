"""What leaves to callers of what the cache said."""

from __future__ import annotations

import pytest

from services.orchestrator.disclosure import SHARED, disclosed
from spillway.routing import CacheKind, CacheOutcome


@pytest.mark.parametrize("kind", CacheKind)
def test_neither_scores_nor_keys_are_told_and_there_is_always_a_reason(kind: CacheKind) -> None:
    told = disclosed(CacheOutcome(kind, "said", 0.97, "key", 3.0))
    assert (told.kind, told.similarity, told.entry_key, told.age_s) == (kind, None, "", 3.0)
    assert told.reason


@pytest.mark.parametrize("kind", [kind for kind in CacheKind if kind is not CacheKind.BYPASS])
def test_the_caches_own_words_stay_inside(kind: CacheKind) -> None:
    assert disclosed(CacheOutcome(kind, "cosine 0.97")) == disclosed(CacheOutcome(kind, "the numbers differ"))


def test_the_orchestrators_own_words_are_told() -> None:
    assert disclosed(CacheOutcome(CacheKind.BYPASS, "the request says bypass")).reason == "the request says bypass"
    assert disclosed(CacheOutcome(CacheKind.EXACT_HIT, SHARED)).reason == SHARED

"""What callers are told of the cache. Pure.

Promises: no score, no similarity, no key, and nothing that tells what else is stored: of each kind of outcome one fixed
sentence, and the orchestrator's own words on requests that were not looked up or that shared an answer. The trace and
the decision record have the rest.
"""

from __future__ import annotations

from spillway.routing import CacheKind, CacheOutcome

__all__ = ["SHARED", "disclosed"]

SHARED = "shared with a request that was under way"
_SENTENCES = {
    CacheKind.EXACT_HIT: "the same request was answered before",
    CacheKind.SEMANTIC_HIT: "a request with the same meaning was answered before",
    CacheKind.MISS: "no answer that may be served is stored",
    CacheKind.UNAVAILABLE: "the cache did not answer in time",
    CacheKind.NEVER_CACHED: "such questions are neither answered from the cache nor kept in it",
}


def disclosed(outcome: CacheOutcome) -> CacheOutcome:
    """The outcome as it leaves."""
    own_words = outcome.kind is CacheKind.BYPASS or outcome.reason == SHARED
    reason = outcome.reason if own_words else _SENTENCES[outcome.kind]
    return CacheOutcome(outcome.kind, reason, age_s=outcome.age_s)

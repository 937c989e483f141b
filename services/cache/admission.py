"""Which answers are worth keeping, and for how long.

Promises: pure; only an accepted, complete, non-empty answer without tool calls is kept, and only below the size limit.
A refusal never gets here as accepted: the executor's gates see to that. A question about what holds today, or about the
caller's own matters, is neither answered from the cache nor is its answer kept, unless the operator allows it. In exact
lookups the temperature plays no part: it is in the key, so a sampled answer only ever serves requests that asked for
the same sampling, and a caller who wants a fresh sample says so with the cache mode. By meaning nothing is found for
pictures, nor for sampling that asks for variety.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.cache.entry import Answer
from services.cache.topicality import is_personal, is_time_sensitive
from spillway.chat import ChatRequest, FinishReason, ImagePart, Role

__all__ = [
    "TTL_S_MAX",
    "Allowances",
    "TtlByFreshness",
    "answer_size_bytes",
    "lifetime_s",
    "only_exact_reason",
    "refusal_reason",
    "unfit_question",
]

TTL_S_MAX = 30 * 86_400.0
"""Nothing is served longer than this, whatever the caller asks for, in seconds: bounds the store and a mistake."""

FRESHNESS_TAG = "freshness:"


@dataclass(frozen=True, slots=True)
class TtlByFreshness:
    """Lifetimes by data-freshness class, in seconds."""

    static_s: float
    business_s: float
    default_s: float


def refusal_reason(answer: Answer, *, size_bytes_max: int) -> str:
    """The rule that keeps the answer out, from a fixed set; empty when it may be stored."""
    rules = (
        ("not_accepted", not answer.accepted),
        ("not_an_answer", answer.message.role is not Role.ASSISTANT),
        ("tool_calls", bool(answer.message.tool_calls)),
        (f"finish_reason_{answer.finish_reason.value}", answer.finish_reason is not FinishReason.STOP),
        ("empty", not answer.message.text.strip()),
        ("too_large", answer_size_bytes(answer) > size_bytes_max),
    )
    return next((name for name, broken in rules if broken), "")


@dataclass(frozen=True, slots=True)
class Allowances:
    """What the operator lets into the cache, and up to which temperature by meaning."""

    time_sensitive: bool = False
    personal: bool = False
    semantic_temperature_max: float = 1.0


def unfit_question(chat: ChatRequest, allowed: Allowances) -> str:
    """The rule by which no stored answer may serve this request, nor its own be stored; empty when it may."""
    question = chat.last_user_text
    rules = (
        ("time_sensitive", not allowed.time_sensitive and is_time_sensitive(question)),
        ("personal", not allowed.personal and is_personal(question)),
    )
    return next((name for name, broken in rules if broken), "")


def only_exact_reason(chat: ChatRequest, allowed: Allowances) -> str:
    """Why the request is only found exactly; empty when it may also be found by meaning."""
    temperature = chat.generation.temperature
    rules = (
        ("there are pictures", any(isinstance(part, ImagePart) for message in chat.messages for part in message.parts)),
        ("the temperature is high", temperature is not None and temperature > allowed.semantic_temperature_max),
    )
    return next((name for name, broken in rules if broken), "")


def answer_size_bytes(answer: Answer) -> int:
    """The size of the answer's content: texts in UTF-8 and pictures."""
    return sum(
        len(part.data) + len(part.url) if isinstance(part, ImagePart) else len(part.text.encode("utf-8", "replace"))
        for part in answer.message.parts
    )


def lifetime_s(explicit_ttl_s: float | None, tags: Sequence[str], ttl: TtlByFreshness) -> float:
    """How long the answer may be served: what the caller said, else its freshness class; at most `TTL_S_MAX`.

    A tag "freshness:static", "freshness:business" or "freshness:default" names the class; of several, the shortest
    counts. An unknown class is the default one.
    """
    if explicit_ttl_s is not None:
        return min(explicit_ttl_s, TTL_S_MAX)
    by_class = {"static": ttl.static_s, "business": ttl.business_s}
    named = [
        by_class.get(tag.removeprefix(FRESHNESS_TAG), ttl.default_s) for tag in tags if tag.startswith(FRESHNESS_TAG)
    ]
    return min(named, default=ttl.default_s)

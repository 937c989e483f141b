"""The ranges of a request to the orchestrator: who asks, labels, wishes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Final

from spillway.routing import CompletionRequest, RoutingOptions
from spillway.validation.chat import chat_request
from spillway.validation.plan import ESCALATIONS_MAX
from spillway.validation.violations import NAME_CHARS_MAX, Violation, between, chars, raise_if_any

__all__ = [
    "LABEL_CHARS_MAX",
    "REQUEST_ID_CHARS_MAX",
    "TAGS_MAX",
    "TAG_CHARS_MAX",
    "TENANT_CHARS_MAX",
    "check_completion_request",
    "check_tags",
    "completion_request",
]

REQUEST_ID_CHARS_MAX: Final = 128
TENANT_CHARS_MAX: Final = 128
# End user, user tier, endpoint, namespace, template version.
LABEL_CHARS_MAX: Final = 256
TAGS_MAX: Final = 16
TAG_CHARS_MAX: Final = 64
CACHE_TTL_S_MAX: Final = 30 * 86_400.0

_PRINTABLE_ASCII: Final = re.compile(r"[ -~]*")


def check_completion_request(value: CompletionRequest, path: str = "") -> None:
    """Raises InvalidValue. `path` is "request" where a message wraps the request."""
    raise_if_any(completion_request(value, f"{path}." if path else ""))


def check_tags(values: Sequence[str], path: str = "tags") -> None:
    """Raises InvalidValue."""
    raise_if_any(_tags(values, path))


def completion_request(value: CompletionRequest, prefix: str) -> Iterator[Violation]:
    """What is wrong with it. `prefix` is "request." where a message wraps the request."""
    yield from chars(value.request_id, REQUEST_ID_CHARS_MAX, f"{prefix}request_id")
    if not _PRINTABLE_ASCII.fullmatch(value.request_id):
        yield Violation(f"{prefix}request_id", "must be printable ASCII")
    yield from chars(value.tenant, TENANT_CHARS_MAX, f"{prefix}tenant")
    yield from chars(value.end_user, LABEL_CHARS_MAX, f"{prefix}end_user")
    yield from chars(value.user_tier, LABEL_CHARS_MAX, f"{prefix}user_tier")
    yield from chars(value.endpoint, LABEL_CHARS_MAX, f"{prefix}endpoint")
    yield from chars(value.namespace, LABEL_CHARS_MAX, f"{prefix}namespace")
    yield from chars(value.template_version, LABEL_CHARS_MAX, f"{prefix}template_version")
    yield from chars(value.knowledge_version, LABEL_CHARS_MAX, f"{prefix}knowledge_version")
    yield from _tags(value.tags, f"{prefix}tags")
    yield from _options(value.options, f"{prefix}options")
    yield from chat_request(value.chat, f"{prefix}chat")


def _tags(values: Sequence[str], path: str) -> Iterator[Violation]:
    if len(values) > TAGS_MAX:
        yield Violation(path, f"must be at most {TAGS_MAX}")
    for i, tag in enumerate(values[:TAGS_MAX]):
        if not 1 <= len(tag) <= TAG_CHARS_MAX:
            yield Violation(f"{path}[{i}]", f"must have 1 to {TAG_CHARS_MAX} characters")


def _options(value: RoutingOptions, path: str) -> Iterator[Violation]:
    yield from chars(value.tier_floor, NAME_CHARS_MAX, f"{path}.tier_floor")
    yield from chars(value.tier_ceiling, NAME_CHARS_MAX, f"{path}.tier_ceiling")
    yield from chars(value.pinned_target, NAME_CHARS_MAX, f"{path}.pinned_target")
    yield from between(value.confidence_min, 0, 1, f"{path}.confidence_min")
    yield from between(value.escalations_max, 0, ESCALATIONS_MAX, f"{path}.escalations_max")
    if value.cost_nanousd_max is not None and value.cost_nanousd_max <= 0:
        yield Violation(f"{path}.cost_nanousd_max", "must be above 0")
    if value.cache_ttl_s is not None and not 0 < value.cache_ttl_s <= CACHE_TTL_S_MAX:
        yield Violation(f"{path}.cache_ttl", "must be above 0 and at most 30 days")

"""What the cache keeps: plain frozen values, without protobuf, Redis or FAISS.

Promises: an `Entry` holds all that a hit needs (the answer) and all that proves it (whose it is, which partition, which
question). Times are Unix seconds; an entry is gone at `expires_at_unix_s`, however often it was served.
"""

from __future__ import annotations

from dataclasses import dataclass

from spillway.routing import CachedAnswer as Answer

__all__ = ["Answer", "Entry", "Question", "Scope", "Selector"]


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose answer it is and what belongs to it. An empty name is a name of its own, no wildcard."""

    tenant: str = ""
    namespace: str = ""
    template_version: str = ""
    knowledge_version: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """A stored answer.

    `partition`, `vector` (unit length, little-endian float32) and `embedding_model` are empty for an entry that is only
    found exactly. `question` is the last user turn, which the verifier compares.

    `group` is the name of the answer that it was found to have in common with others, directly or through others, or
    that it is the first to have; empty where that is the key (`entry_group`). `aliases` is how many entries the group
    had when this one came, with it.
    """

    key: str
    scope: Scope
    answer: Answer
    stored_at_unix_s: float
    expires_at_unix_s: float
    partition: str = ""
    vector: bytes = b""
    embedding_model: str = ""
    question: str = ""
    tags: tuple[str, ...] = ()
    group: str = ""
    aliases: int = 1


@dataclass(frozen=True, slots=True)
class Question:
    """Of a stored answer all that others are compared with: the entry without its answer and its vector, which are most
    of what reading one costs."""

    key: str
    scope: Scope
    partition: str
    question: str
    expires_at_unix_s: float
    group: str = ""
    aliases: int = 1


@dataclass(frozen=True, slots=True)
class Selector:
    """Which entries: every condition that is not None must hold. At least one is set."""

    tenant: str | None = None
    namespace: str | None = None
    template_version: str | None = None
    knowledge_version: str | None = None
    tag: str | None = None
    entry_key: str | None = None

    def takes(self, entry_key: str, scope: Scope, tags: tuple[str, ...]) -> bool:
        """Whether the entry with this key, scope and tags is meant."""
        return (
            (self.entry_key is None or self.entry_key == entry_key)
            and (self.tenant is None or self.tenant == scope.tenant)
            and (self.namespace is None or self.namespace == scope.namespace)
            and (self.template_version is None or self.template_version == scope.template_version)
            and (self.knowledge_version is None or self.knowledge_version == scope.knowledge_version)
            and (self.tag is None or self.tag in tags)
        )

"""What was invalidated: rules that an entry's stamp is held against, so that forgetting a million answers is one write.

Promises: pure. A bucket of tenants has a history: an era, and a number that grows with every invalidation. An entry
carries both as they were when it was stored; it is living when it is of this era and no younger rule takes it. So it
matters neither who stored it, nor when the index hears of it, nor when its body is deleted. Whatever is unknown (no
history, no stamp, another era, a stamp ahead of the history, what cannot be read) is not living: history that was lost
makes misses. A rule of which only the number can be read, or whose name is not that of its conditions, takes everything
up to it. A history with a rule of which not even that can be read is none, and whoever comes across it begins it anew:
no record makes misses for ever. So does whoever knows of a history what it does not say any more (`History.follows`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.cache.admission import TTL_S_MAX
from services.cache.entry import Scope, Selector

__all__ = ["BUCKET_RULES_MAX", "NO_HISTORY", "History", "Rule", "history_of_fields", "rule_name", "rule_text"]

BUCKET_RULES_MAX = 1_000
"""Rules of one bucket, about 150 bytes each. One more, and the bucket begins a new era: all of its answers are
forgotten, and so are the rules."""

RULE_PREFIX = "rule:"

EVERYTHING = Selector()
"""Of a bucket: what a rule takes of which no more can be read than when it was made."""

_MILLISECONDS = re.compile(rb"\d{1,15}")

_CONDITIONS = ("tenant", "namespace", "template_version", "knowledge_version", "tag")


@dataclass(frozen=True, slots=True)
class Rule:
    """All that `selector` takes and that was stored up to invalidation `number`, is invalid. `name`: of its field, and
    `made_unix_ms` by Redis's clock; 0 where that cannot be read."""

    number: int
    selector: Selector
    name: str = ""
    made_unix_ms: int = 0


@dataclass(frozen=True, slots=True)
class History:
    """The rules of one bucket. `token` is another one after every invalidation, and says whether this is current;
    `number`: of the latest. `unreadable`: how many rules take everything up to their number, as no more of them can be
    read."""

    era: str
    token: str
    number: int = 0
    rules: tuple[Rule, ...] = ()
    unreadable: int = 0
    _by_tag: Mapping[str | None, Sequence[Rule]] = field(init=False, repr=False, compare=False)  # the youngest first

    def __post_init__(self) -> None:
        by_tag: dict[str | None, list[Rule]] = {}
        for rule in sorted(self.rules, key=lambda rule: rule.number, reverse=True):
            by_tag.setdefault(rule.selector.tag, []).append(rule)
        object.__setattr__(self, "_by_tag", by_tag)

    def is_living(self, stamp: bytes | None, key: str, scope: Scope, tags: tuple[str, ...]) -> bool:
        """Whether the entry with this stamp still stands."""
        era, _, number = (stamp or b"").decode("ascii", "replace").partition(" ")
        if not era or era != self.era or not number.isdecimal():
            return False
        stored_at = int(number)
        if stored_at > self.number:  # or what is invalidated from now on would not take it
            return False
        for tag in (None, *tags):
            for rule in self._by_tag.get(tag, ()):
                if rule.number <= stored_at:
                    break
                if rule.selector.takes(key, scope, tags):
                    return False
        return True

    def follows(self, known: History, *, now_unix_s: float) -> bool:
        """Whether this may be what became of `known`. Not when its number is lower, or a rule has left or has a lower
        one, as in a backup that was restored; but rules leave that are older than any entry."""
        if self.era != known.era:
            return True
        if self.number < known.number:
            return False
        numbers = {rule.name: rule.number for rule in self.rules}
        oldest_unix_ms = (now_unix_s - TTL_S_MAX) * 1_000
        return all(
            numbers.get(rule.name, 0) >= rule.number or 0 < rule.made_unix_ms < oldest_unix_ms for rule in known.rules
        )


NO_HISTORY = History("", "")
"""Of a bucket that nothing was stored in, or whose history was lost."""


def rule_name(selector: Selector) -> str:
    """The field of the selector's rule: the same selector again replaces its rule."""
    return _name_of_text(rule_text(selector).encode())


def rule_text(selector: Selector) -> str:
    """The conditions of a selector without an entry key, as JSON."""
    return json.dumps({name: getattr(selector, name) for name in _CONDITIONS if getattr(selector, name) is not None})


def history_of_fields(fields: Mapping[bytes, bytes], known: History | None = None) -> History:
    """The history as it lies in a hash: era, token, number, and rules as "NUMBER MILLISECONDS JSON". Of rules that have
    the name of one of `known`, what they take is that one's, as a name says it all.

    NO_HISTORY, of which nothing is living, for one with a rule of which not even the number can be read, or that is
    ahead of the history's.
    """
    try:
        latest = int(fields.get(b"number") or 0)
        read = {} if known is None else {rule.name: rule.selector for rule in known.rules}
        rules = tuple(
            _rule(name, value, latest, read) for name, value in fields.items() if name.startswith(RULE_PREFIX.encode())
        )
        return History(
            fields.get(b"era", b"").decode("ascii"),
            fields.get(b"token", b"").decode("ascii"),
            latest,
            rules,
            sum(rule.selector is EVERYTHING for rule in rules),
        )
    except ValueError:
        return NO_HISTORY


def _name_of_text(text: bytes) -> str:
    return RULE_PREFIX + hashlib.sha256(text).hexdigest()[:32]


def _rule(raw_name: bytes, value: bytes, latest: int, known: Mapping[str, Selector]) -> Rule:
    """Raises ValueError."""
    name = raw_name.decode("ascii", "replace")
    number, _, rest = value.partition(b" ")
    if not number.isdigit() or not 0 < int(number) <= latest:
        raise ValueError("no number of a rule of this history")
    made, _, text = rest.partition(b" ")
    selector = known.get(name, EVERYTHING)
    if selector is EVERYTHING and name == _name_of_text(text):
        selector = _selector(text)
    return Rule(int(number), selector, name, int(made) if _MILLISECONDS.fullmatch(made) else 0)


def _selector(text: bytes) -> Selector:
    try:
        conditions = json.loads(text)
    except (ValueError, RecursionError):
        return EVERYTHING
    if not isinstance(conditions, dict) or not all(isinstance(text, str) for text in conditions.values()):
        return EVERYTHING
    if not conditions or not conditions.keys() <= set(_CONDITIONS):  # of another version, say
        return EVERYTHING
    return Selector(**conditions)

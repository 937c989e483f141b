"""An entry stands until a younger rule takes it; whatever is unknown makes it a miss."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cache.entry import Scope, Selector
from services.cache.invalidation import NO_HISTORY, History, Rule, history_of_fields, rule_name, rule_text

SCOPE = Scope("acme", "shop", "1", "2026")
RULE = Rule(5, Selector(tenant="acme", namespace="shop"))
HISTORY = History("era", "token", 6, (RULE,))


@pytest.mark.parametrize(
    ("stamp", "is_living"),
    [
        (b"era 4", False),
        (b"era 5", True),
        (b"era 6", True),
        (b"era 7", False),  # ahead of the history
        (b"other 6", False),
        (b"era", False),
        (b"era x", False),
    ],
)
def test_only_what_was_stored_since_the_rule_stands(stamp: bytes, is_living: bool) -> None:
    assert HISTORY.is_living(stamp, "k", SCOPE, ()) is is_living


def test_a_rule_leaves_alone_what_it_does_not_take() -> None:
    assert HISTORY.is_living(b"era 0", "k", Scope("acme", "other"), ())
    assert HISTORY.is_living(b"era 0", "k", Scope("globex", "shop"), ())


def test_what_is_unknown_does_not_stand() -> None:
    assert not HISTORY.is_living(None, "k", SCOPE, ())
    assert not NO_HISTORY.is_living(b" 0", "k", SCOPE, ())
    assert not NO_HISTORY.is_living(b"era 9", "k", SCOPE, ())


selectors = st.builds(
    Selector,
    tenant=st.text(max_size=3),
    namespace=st.none() | st.text(max_size=3),
    template_version=st.none() | st.text(max_size=3),
    knowledge_version=st.none() | st.text(max_size=3),
    tag=st.none() | st.text(max_size=3),
)


few = st.sampled_from(("a", "b"))
maybe = st.none() | few
rules = st.lists(st.builds(Rule, st.integers(1, 9), st.builds(Selector, tenant=few, namespace=maybe, tag=maybe)))


@given(rules, st.integers(0, 9), st.builds(Scope, few, few), st.lists(few, max_size=3))
def test_what_stands_is_what_no_younger_rule_takes_in_whatever_order_they_are_looked_through(
    rules: list[Rule], stored_at: int, scope: Scope, tags: list[str]
) -> None:
    history = History("era", "token", 9, tuple(rules))
    taken = any(rule.number > stored_at and rule.selector.takes("k", scope, tuple(tags)) for rule in rules)
    assert history.is_living(f"era {stored_at}".encode(), "k", scope, tuple(tags)) is not taken


@given(st.lists(selectors, max_size=5), st.lists(selectors, max_size=5), st.randoms(use_true_random=False))
def test_a_history_reads_the_same_whatever_was_known_of_its_rules(
    some: list[Selector], others: list[Selector], random: Random
) -> None:
    def fields(selectors: list[Selector]) -> dict[bytes, bytes]:
        return {b"era": b"e", b"number": b"9"} | {
            rule_name(each).encode(): f"{random.randint(1, 9)} 1700000000000 {rule_text(each)}".encode()
            for each in selectors
        }

    known, news = history_of_fields(fields(some)), fields([*others, *some[:2]])
    assert history_of_fields(news, known) == history_of_fields(news)


def test_a_rule_that_could_not_be_read_is_read_anew() -> None:
    selector = Selector(tenant="acme", tag="red")
    name, text = rule_name(selector).encode(), f"1 1700000000000 {rule_text(selector)}".encode()
    known = history_of_fields({b"era": b"e", b"number": b"1", name: text[:-1]})
    assert known.unreadable == 1
    assert history_of_fields({b"era": b"e", b"number": b"1", name: text}, known).rules[0].selector == selector


@given(selectors, st.integers(1, 2**53))
def test_a_rule_is_read_as_it_was_written(selector: Selector, number: int) -> None:
    value, name = f"{number} 1700000000000 {rule_text(selector)}".encode(), rule_name(selector)
    fields = {b"era": b"e", b"token": b"t", b"number": str(2**53).encode(), name.encode(): value}
    assert history_of_fields(fields) == History("e", "t", 2**53, (Rule(number, selector, name, 1_700_000_000_000),))


@given(selectors, selectors)
def test_a_rule_under_the_name_of_others_conditions_takes_everything_up_to_it(one: Selector, other: Selector) -> None:
    value = f"5 1700000000000 {rule_text(one)}".encode()
    history = history_of_fields({b"era": b"e", b"token": b"t", b"number": b"7", rule_name(other).encode(): value})
    assert history.unreadable == (one != other)
    assert one == other or not history.is_living(b"e 4", "k", SCOPE, ())
    assert history.is_living(b"e 5", "k", SCOPE, ())


def test_a_rules_name_is_that_of_every_version_of_the_layout() -> None:
    value = b'5 1700000000000 {"tenant": "acme", "tag": "red"}'
    name = b"rule:648795a029c12b8ff20fedfd34b4bb11"
    history = history_of_fields({b"era": b"e", b"token": b"t", b"number": b"7", name: value})
    (rule,) = history.rules
    assert (rule.number, rule.selector) == (5, Selector(tenant="acme", tag="red"))
    assert rule_name(Selector(tenant="acme", tag="red")).encode() == name


@given(selectors, selectors)
def test_two_selectors_share_a_rule_exactly_when_they_are_equal(one: Selector, other: Selector) -> None:
    assert (rule_name(one) == rule_name(other)) == (one == other)


@given(st.binary() | st.binary().map(lambda rest: b"3 1700000000000 " + rest))
def test_no_bytes_make_the_reader_fail_or_leave_a_rule_out(value: bytes) -> None:
    history = history_of_fields({b"era": b"e", b"token": b"t", b"number": b"7", b"rule:x": value})
    assert history == NO_HISTORY or len(history.rules) == 1
    assert not history.is_living(b"e 0", "k", SCOPE, ()) or history.unreadable == 0


@pytest.mark.parametrize("value", [b"x 2 {}", b"\xff", b"", b" 2 {}", b"-1 2 {}", b"0 2 {}", b"8 2 {}", b"9" * 5_000])
def test_a_rule_without_a_number_of_its_history_leaves_none(value: bytes) -> None:
    assert history_of_fields({b"era": b"e", b"token": b"t", b"number": b"7", b"rule:x": value}) is NO_HISTORY


@pytest.mark.parametrize(
    "value",
    [b"5 2 {}", b"5 2 []", b'5 2 {"tenant": 1}', b'5 2 {"unheard": "x"}', b"5", b"5 \xff", b"5 2 " + b"[" * 10**5],
)
def test_a_rule_of_which_only_the_number_can_be_read_takes_everything_up_to_it(value: bytes) -> None:
    name = b"rule:" + hashlib.sha256(value.partition(b" 2 ")[2]).hexdigest()[:32].encode()
    history = history_of_fields({b"era": b"e", b"token": b"t", b"number": b"7", name: value})
    assert history.unreadable == 1
    assert not history.is_living(b"e 4", "k", Scope("globex"), ())
    assert history.is_living(b"e 5", "k", SCOPE, ())


NOW_UNIX_S = 1_700_000_000.0
KEPT_S = 30 * 86_400.0
KNOWN = History("era", "token", 6, (replace(RULE, name="rule:a", made_unix_ms=int(NOW_UNIX_S * 1_000)),))


@pytest.mark.parametrize(
    ("later", "age_s", "follows"),
    [
        (KNOWN, 0.0, True),
        (replace(KNOWN, token="another", number=7), 0.0, True),
        (replace(KNOWN, rules=(replace(KNOWN.rules[0], number=6),)), 0.0, True),  # the same selector again
        (replace(KNOWN, number=5), 0.0, False),
        (replace(KNOWN, number=9, rules=()), KEPT_S, False),
        (replace(KNOWN, number=9, rules=()), KEPT_S + 1.0, True),  # nothing that it took can be there any more
        (replace(KNOWN, number=9, rules=(replace(KNOWN.rules[0], number=4),)), 0.0, False),
        (replace(KNOWN, number=9, rules=(replace(KNOWN.rules[0], name="rule:b"),)), 0.0, False),
        (History("another era", "token"), 0.0, True),
    ],
)
def test_a_history_follows_what_was_known_unless_something_of_it_is_undone(
    later: History, age_s: float, follows: bool
) -> None:
    assert later.follows(KNOWN, now_unix_s=NOW_UNIX_S + age_s) is follows


def test_a_rule_whose_age_cannot_be_read_never_leaves() -> None:
    known = replace(KNOWN, rules=(replace(KNOWN.rules[0], made_unix_ms=0),))
    assert not replace(known, number=9, rules=()).follows(known, now_unix_s=NOW_UNIX_S + 2 * KEPT_S)

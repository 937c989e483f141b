"""What words the questions of an answer have: bounded, forgetful, kept by digests, heard of by the risk control."""

from __future__ import annotations

import io
import math
from collections import Counter
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.cache.entry import Scope
from services.cache.entry_group import group_of
from services.cache.matching import answer_words
from services.cache.matching.answer_words import ALONE, CELLS, MARGIN_MAX, QUESTIONS_MAX, SMOOTHING, AnswerWords
from services.cache.matching.group_records import GROUPS_MAX
from services.cache.matching.neighbourhood import NAMES
from services.cache.matching.risk_control import Judged, RiskController, RiskPolicy, Source
from services.cache.matching.risk_model import fit_risk_model
from services.cache.matching.risk_state import RiskStateError
from services.cache.store.answer_store_memory import MemoryStore
from services.runtime.clock import FakeClock
from spillway.chat import Embedding
from spillway.routing import TaskType
from tests.support.cache_parts import MODEL, answer, cache_over, chat, vector

NEAR = ("on", "off")
WORDS = st.lists(st.sampled_from("abcdefghij"), max_size=6)


def lamps() -> AnswerWords:
    words = AnswerWords()
    for room in ("hall", "attic", "cellar", "garden", "garage", "kitchen"):
        words.add("on", ("turn", "on", "the", room))
        words.add("off", ("turn", "off", "the", room))
    return words


def test_a_word_that_parts_two_answers_speaks_for_the_one_that_has_it() -> None:
    words = lamps()
    asked = ("turn", "off", "the", "lamp")
    assert words.margin("off", NEAR, asked) > 0.5
    assert words.margin("on", NEAR, asked) == -words.margin("off", NEAR, asked)


def test_words_that_both_have_alike_say_nothing() -> None:
    assert lamps().margin("on", NEAR, ("turn", "the", "hall")) == 0.0


def test_the_likeliest_rival_is_the_one_that_counts() -> None:
    words = lamps()
    for _ in range(6):
        words.add("else", ("open", "a", "window", "in", "the", "hall"))
    asked = ("turn", "off", "the", "lamp")
    margins = [words.margin("on", rivals, asked) for rivals in (("else",), ("off",), ("else", "off"))]
    assert margins[0] > 0.0 > margins[1] == margins[2]


def test_neither_the_order_nor_the_number_of_near_questions_changes_the_margin() -> None:
    words = lamps()
    asked = ("turn", "off", "it")
    assert words.margin("on", ("off",), asked) == words.margin("on", ("on", "off", "on", "off"), asked)
    assert words.margin("on", NEAR, asked) == words.margin("on", NEAR, ("it", "off", "turn", "off"))


def test_where_no_other_answer_is_near_or_nothing_is_known_the_words_decide_nothing() -> None:
    words = lamps()
    assert words.margin("on", ("on",), ("turn", "off")) == words.margin("new", (), ("x",)) == ALONE
    assert words.margin("on", NEAR, ()) == 0.0
    assert words.margin("new", ("another",), ("turn", "off")) == 0.0


def exact(told: list[tuple[int, list[str]]], group: int, rivals: set[int], asked: set[str]) -> float:
    """The margin, of counts that share nothing."""
    questions = Counter(of for of, _ in told)
    seen = Counter((of, word) for of, words in told for word in set(words))

    def fit(of: int) -> float:
        found = 0.0
        for word in asked:
            share = (sum(seen[each, word] for each in questions) + 0.5) / (len(told) + 1.0)
            found += math.log((seen[of, word] / share + SMOOTHING) / (questions[of] + SMOOTHING))
        return found

    return min(max(fit(group) - max(map(fit, rivals)), -MARGIN_MAX), MARGIN_MAX)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 4), WORDS), max_size=40), WORDS)
def test_of_few_words_the_margin_is_that_of_exact_counts(told: list[tuple[int, list[str]]], asked: list[str]) -> None:
    words = AnswerWords()
    for group, question in told:
        words.add(str(group), question)
    expected = exact(told, 0, {1, 2, 5}, set(asked))
    assert words.margin("0", ("1", "2", "5"), asked) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=30)
@given(st.text(max_size=20), st.lists(st.text(max_size=8), max_size=80), st.integers(0, 300))
def test_whatever_was_asked_the_margin_is_finite_and_within_its_bound(group: str, asked: list[str], times: int) -> None:
    words = lamps()
    for _ in range(times):
        words.add(group, asked)
    for one, other in ((group, "off"), ("off", group)):
        assert -MARGIN_MAX <= words.margin(one, (other,), asked) <= MARGIN_MAX


def test_counts_are_halved_before_they_outgrow_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer_words, "QUESTIONS_MAX", 50)
    words = AnswerWords()
    for number in range(1_000):
        words.add("on", ("turn", "on"))
        if number < 40:
            words.add("off", ("turn", "off"))
        _, questions, cells = words.kept()
        assert questions.max() <= 50
        assert cells.max() <= 50
    assert len(words.kept()[0]) == 1  # of the other one nothing was heard for long
    assert words.margin("on", NEAR, ("on",)) > 0.0


def test_a_sketch_that_fills_up_is_thinned_out_and_goes_on_telling() -> None:
    words = AnswerWords()
    fullest = 0
    for number in range(900):
        words.add("on", [f"{number} {each}" for each in range(30)] + ["on"])
        words.add("off", [f"{number} {each} no" for each in range(30)] + ["off"])
        fullest = max(fullest, int(np.count_nonzero(words.kept()[2][0])))
    assert CELLS // 4 < fullest <= CELLS // 2 + 62
    assert words.margin("off", NEAR, ("off",)) > 1.0


def test_the_group_heard_of_longest_ago_makes_room() -> None:
    words = AnswerWords()
    for number in range(GROUPS_MAX):
        words.add(str(number), ("a",))
    words.add("0", ("a",))
    words.add("new", ("a",))
    digests, questions, _ = words.kept()
    assert len(digests) == GROUPS_MAX
    assert questions[-1] == GROUPS_MAX + 2
    again = AnswerWords()
    again.add("1", ("a",))
    assert again.kept()[0][0] not in digests


def test_what_was_counted_of_a_group_that_made_room_speaks_for_no_more_questions_than_it_has(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answer_words, "GROUPS_MAX", 2)
    words = AnswerWords()
    for group in (*["first"] * 20, "second", "third", "first"):
        words.add(group, (group,))
    assert 0.0 < words.margin("first", ("third",), ("first",)) < 0.5


def test_many_words_that_all_speak_for_an_answer_say_no_more_than_the_bound() -> None:
    words = AnswerWords()
    told = [str(number) for number in range(60)]
    for _ in range(50):
        words.add("on", told)
        words.add("off", ("off",))
    assert words.margin("on", NEAR, told) == MARGIN_MAX
    assert words.margin("off", NEAR, told) == -MARGIN_MAX


def test_what_was_restored_is_not_told_of_what_comes_later_elsewhere() -> None:
    words, again = lamps(), AnswerWords()
    again.restore(*words.kept())
    before = again.margin("on", NEAR, ("on",))
    for _ in range(20):
        words.add("off", ("on",))
    assert again.margin("on", NEAR, ("on",)) == before > 0.0


def test_every_process_has_the_same_cells() -> None:
    words = AnswerWords()
    words.add("a group", ("café", "\ud800"))
    first, second = words.kept()[2]
    assert np.flatnonzero(first).tolist() == [30890, 35357, 51109, 54621]
    assert np.flatnonzero(second).tolist() == [1848, 14227, 20355, 38301]


def world(seed: int, *, with_words: bool) -> tuple[float, float]:
    """Two answers that only a word tells apart: what is foretold where the question has the proposed one's word, and
    where it has the other's."""
    rng = np.random.default_rng(seed)
    controller = RiskController(RiskPolicy(), Random(1))

    def features(group: str, word: str) -> np.ndarray:
        found = np.zeros(len(NAMES))
        found[NAMES.index("words")] = controller.words.margin(group, NEAR, ("turn", word)) if with_words else 0.0
        return found

    for number in range(1_200):
        for word in NEAR if number < 200 else ():
            controller.words.add(word, ("turn", word))
        word, group = NEAR[int(rng.integers(2))], NEAR[int(rng.integers(2))]
        if number >= 200:
            same = bool(rng.random() < (0.98 if word == group else 0.3))
            controller.observe(Judged(features(group, word), 0.0), same=same, source=Source.MISS)
        if controller.stale:
            controller.adopt(fit_risk_model(controller.observations()))
    right, wrong = (controller.judge_elsewhere(features("on", word), "", audit=False).booked for word in NEAR)
    return right, wrong


def test_a_word_that_parts_two_answers_is_learned_by_the_risk_control() -> None:
    right, wrong = world(1, with_words=True)
    assert right < 0.05
    assert wrong > 0.5
    right, wrong = world(1, with_words=False)
    assert right == pytest.approx(wrong)


def test_words_are_restored_and_none_is_named_in_what_is_kept() -> None:
    controller, again = (RiskController(RiskPolicy(), Random(1)) for _ in range(2))
    for number in range(30):
        controller.words.add(f"a group's key {number % 3}", ("turntable", f"seldomword{number % 3}"))
    state = controller.state()
    with np.load(io.BytesIO(state)) as archive:
        kept = b"".join(archive[name].tobytes() for name in archive.files)
    for text in ("a group's key", "turntable", "seldomword"):
        assert text.encode() not in kept
        assert text.encode("utf-32-le") not in kept
    again.restore(state)
    near = [f"a group's key {number}" for number in range(3)]
    for word in ("seldomword1", "seldomword2", "other"):
        assert again.words.margin(near[1], near, (word,)) == controller.words.margin(near[1], near, (word,))
    assert again.words.margin(near[1], near, ("seldomword1",)) > 0.0
    controller.words.add(near[0], ("later",))
    assert again.words.kept()[1][-1] == 30


def put(at: Any, value: Any) -> Callable[[np.ndarray], np.ndarray]:
    def change(part: np.ndarray) -> np.ndarray:
        part[at] = value
        return part

    return change


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("word_groups", lambda part: part[:1]),
        ("word_groups", lambda part: part.astype(np.float64)),
        ("word_groups", put(0, 1)),
        ("word_groups", lambda part: np.arange(GROUPS_MAX + 1, dtype=np.uint64)),
        ("word_groups", None),
        ("word_questions", lambda part: part[:-1]),
        ("word_questions", lambda part: part.astype(np.float64)),
        ("word_questions", put(0, -1)),
        ("word_questions", put(-1, QUESTIONS_MAX + 1)),
        ("word_questions", None),
        ("word_cells", lambda part: part[:1]),
        ("word_cells", lambda part: part[:, :-1]),
        ("word_cells", lambda part: part.astype(np.int64)),
        ("word_cells", put((0, 0), QUESTIONS_MAX + 1)),
        ("word_cells", None),
    ],
)
def test_words_out_of_range_are_refused_and_change_nothing(
    name: str, change: Callable[[np.ndarray], np.ndarray] | None
) -> None:
    controller = RiskController(RiskPolicy(), Random(1))
    for word in NEAR:
        controller.words.add(word, (word,))
    before = controller.words.margin("on", NEAR, ("on",))
    with np.load(io.BytesIO(controller.state())) as archive:
        parts = {each: archive[each] for each in archive.files}
    if name == "word_groups" and change is not None:
        parts[name][1] = 1
    changed = {**parts, name: change(parts[name])} if change else {k: v for k, v in parts.items() if k != name}
    stream = io.BytesIO()
    np.savez_compressed(stream, **changed)
    with pytest.raises(RiskStateError):
        controller.restore(stream.getvalue())
    assert controller.words.margin("on", NEAR, ("on",)) == before > 0.0


async def test_a_stored_question_tells_the_words_of_its_answers_group() -> None:
    clock = FakeClock()
    store = MemoryStore(entries_max=100, clock=clock)
    cache = cache_over(store, clock)
    keys = []
    for number, (text, said) in enumerate(
        (
            ("How do I reset my router?", "hold_the_button"),
            ("can the router be reset", "hold_the_button"),  # of the first one's group
            ("Where are routers bought?", "see_the_shop"),
            ("where is another router bought", "see_the_shop"),
        )
    ):
        values = vector("r", 64) + (0.1 + 0.05 * number) * vector(f"r{number}", 64)
        at = Embedding(values.astype("<f4").tobytes(), MODEL)
        await cache.lookup(Scope("acme"), chat(text), embedding=at, task_type=TaskType.OTHER)
        stored = await cache.store(Scope("acme"), chat(text), answer(said), embedding=at, task_type=TaskType.OTHER)
        keys.append(stored.entry_key)
    (learned,) = cache._search.classes.all()
    groups = [group_of(entry) for entry in await store.get_many(keys) if entry is not None]
    assert groups[0] == groups[1] != groups[2] == groups[3]
    words = learned.controller.words
    _, questions, _ = words.kept()
    assert questions.tolist() == [2, 2, 4]
    assert words.margin(groups[2], groups, ("where", "bought")) > 0.0 > words.margin(groups[0], groups, ("where",))
    told = learned.controller.observations().features[:, NAMES.index("words")]
    assert told[0] == ALONE  # the first answer alone was near
    assert told[-1] not in (0.0, ALONE)

"""What one of two questions says more, where that makes another one of it ("my card", "my wife's card").

Promises: pure, total, linear; a difference is a constant sentence and quotes no question. English. No evidence lifts
one; one stored question of the answer that says it as well is enough.

`adds_matter` and `contrasts` hold a question against all of an answer's: they are for answers that are not broad.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from services.cache.matching.alignment import has_word, unmatched
from services.cache.matching.asking import ask_how_long, other_answer
from services.cache.matching.contraries import GENERIC_WORDS
from services.cache.matching.grammar import asks_else, form_added, keeps_form, question_kind
from services.cache.matching.inflection import same_word
from services.cache.matching.lexicon import LIGHT_WORDS, UNITS, word_set
from services.cache.matching.quantifiers import restricts
from services.cache.matching.reading import Reading
from services.cache.matching.tokens import words_in

__all__ = ["added", "adds_matter", "contrasts", "orders_more"]

_COURTESIES: Final = frozenset({"thank", "thanks", "please", "hello", "hi", "help", "question", "advise", "regards"})
_NO_NARROWER: Final = word_set("""
    basically correctly easily exactly general generally myself normally ourselves precisely properly right roughly
    safely simply successfully typically usually yourself
""")
"""Words that what is asked anyway goes without: nobody asks how to do it wrongly."""

_LIMITING: Final = frozenset({"than", "only", "another"})
_MEASURES: Final = word_set("""
    number amount size length width height depth weight age price speed distance frequency duration volume temperature
    colour percentage share
""")
_PRICES: Final = word_set(
    "cost costs fee fees charge salary pay rate limit maximum minimum total population time date highest lowest"
)
_WHETHER: Final = frozenset({"yes or no"})
_GENERAL: Final = frozenset({"what", "which"})
_LEADING: Final = word_set("""
    about across after against around as at because before behind beside between beyond by despite during except for
    from if in inside into near of on onto outside over past per since through to under until unless using via when
    whenever where while with within without
""")
_ADVERBS: Final = word_set("abroad alone indoors offline online outdoors overnight raw twice upstairs")
_ADVERB_CHARS_MIN: Final = 6
_MORE_FREELY: Final = 2
"""With so many words of matter more, one word of form may be another one."""

_FORMAL: Final = GENERIC_WORDS | LIGHT_WORDS
"""Words of matter that carry the form of a question more than its matter."""

_TENSE: Final = "tense: one asks what was, the other what is"
_ACTOR: Final = "actor: somebody else acts"
_ASKING: Final = "asking: one asks who, whether, or what happens; the other how or when"
_ELSE: Final = "asking: it asks another thing of the same matter"
_ACTING: Final = "acting: one needs, gets or gives what the other does not"
_MEASURE: Final = "measure: one asks for another measure than the other"
_OF_FEWER: Final = "asking: one asks of fewer of them, or in another degree"
_WIDER: Final = "matter: it asks for something wider than all of the answer's own questions"


def added(asked: Reading, stored: Reading) -> Iterator[str]:
    """All that makes another question, the gravest first."""
    if asked.exact == stored.exact and asked.order == stored.order:
        return iter(())
    few = asked.particulars.few and stored.particulars.few
    return _added_of_few(asked, stored) if few else _added(asked, stored)


def contrasts(asked: Reading, rows: Sequence[Reading]) -> Iterator[str]:
    """A tense, an actor, a verb of having or a question that is another in one of the rows which says all else, and
    that no row has; or matter that all of the rows have, and the asked question, in the same form, lacks."""
    wider = False
    measured: list[bool] = []
    whether: list[bool] = []
    for row in rows:
        more, less = unmatched(asked, row)
        if _measures_else(asked, row, rows) and less - _MEASURES <= _FORMAL:
            yield _MEASURE
        if less := less - _FORMAL:
            if not wider and not more and _same_form(row, asked, less):
                wider = True
                if any(all(has_word(word, row, other) for other in rows) for word in less):
                    yield _WIDER
            continue
        yield from _of_same_matter(asked, row, rows)
        exchanged = not more - _FORMAL and asks_else(asked, row) and not ask_how_long(asked.asking, row.asking)
        if (exchanged or question_kind(asked, row)) and not _ask_alike(asked, rows):
            yield _ELSE
        measured.append(_asks_measure(row))
        whether.append(row.questions == _WHETHER)
    if measured and all(measured) and asked.questions and not _asks_measure(asked):
        yield _ELSE
    if whether and all(whether) and "what" in asked.questions and "do" in asked.frame.operators:
        yield _ELSE


def _of_same_matter(asked: Reading, row: Reading, rows: Sequence[Reading]) -> Iterator[str]:
    """What is another in a row that says all else, and in no row as in the asked question."""
    mine, theirs = asked.particulars, row.particulars
    tensed = mine.tense and theirs.tense not in ("", mine.tense)
    if tensed and all(other.particulars.tense != mine.tense for other in rows):
        yield _TENSE
    if _others_act(asked, row):
        shared = mine.actors.keys() & theirs.actors.keys()
        if not any(other.particulars.actors.get(verb) == mine.actors[verb] for other in rows for verb in shared):
            yield _ACTOR
    parted = mine.light and theirs.light and mine.light.isdisjoint(theirs.light)
    if parted and all(other.particulars.light.isdisjoint(mine.light) for other in rows):
        yield _ACTING
    if (_asks_otherwise(asked, row) or _asks_otherwise(row, asked)) and not _ask_alike(asked, rows):
        yield _ASKING


def _measures_else(asked: Reading, row: Reading, rows: Sequence[Reading]) -> bool:
    """Whether it asks for a measure, the row for another, and none of the rows for the same."""
    mine = _MEASURES & asked.traits.vocabulary
    if not mine or mine & row.traits.vocabulary or _MEASURES.isdisjoint(row.words):
        return False
    return all(mine.isdisjoint(other.words) for other in rows)


def _asks_measure(reading: Reading) -> bool:
    """Whether it asks how much, how long, when and so on something is."""
    if not reading.questions or "when" in reading.questions:
        return bool(reading.questions)
    if any(kind.startswith("how ") for kind in reading.questions):
        return True
    return not (_MEASURES | _PRICES).isdisjoint(reading.words) or not UNITS.keys().isdisjoint(reading.words)


def _ask_alike(asked: Reading, rows: Sequence[Reading]) -> bool:
    """Whether one of the rows has its question word, "what" and "which" in the same form."""
    if kinds := asked.questions - _GENERAL:
        return any(kinds & row.questions for row in rows)
    return any(asked.questions & row.questions and keeps_form(row, asked) for row in rows)


def orders_more(asked: Reading, stored: Reading) -> bool:
    """Whether the stored question also says what to answer, or says something in characters that are not shown, or
    turns round what it says: it proves nothing of words."""
    if stored.hidden and stored.hidden != asked.hidden:
        return True
    theirs = stored.particulars
    if not theirs.orders and not theirs.corrections:
        return False
    mine = asked.particulars
    return bool(theirs.orders - mine.orders or theirs.corrections - mine.corrections)


def adds_matter(asked: Reading, rows: Sequence[Reading], *, is_known: bool) -> bool:
    """Whether it says more than all of the rows, and all that one of them says: matter that narrows by its place ("an
    egg for free"), or in the row's form matter ("a fried egg") or a word that limits ("more than one egg").

    `is_known`: the rows show what the answer is about, so one word that narrows by its place is another guard's
    (`unheard`), which may be learned to be mistaken.
    """
    words_min = _MORE_FREELY if is_known else 1
    limiting = not _LIMITING.isdisjoint(asked.words)
    for row in rows:
        more, less = unmatched(asked, row)
        if less - _FORMAL:
            continue
        if more := more - _FORMAL - _COURTESIES - _NO_NARROWER:
            if _narrows(asked, more, words_min) or _same_form(asked, row, more):
                return any(not any(has_word(word, asked, other) for other in rows) for word in more)
        elif limiting and not form_added(asked, row).isdisjoint(_LIMITING) and keeps_form(asked, row):
            return all(not form_added(asked, other).isdisjoint(_LIMITING) for other in rows)
    return False


def _narrows(asked: Reading, more: frozenset[str], words_min: int) -> bool:
    """Whether so many of the words more stand behind the last of the other matter and a preposition ("for free", "if it
    is wet"), or are adverbs there ("legally"); or in a phrase before all ("as an admin, ...")."""
    head, comma, _ = asked.core.normal.partition(",")
    before = words_in(head.casefold()) if comma else ()
    if before and before[0] in _LEADING and len(more.intersection(before)) >= words_min:
        return True
    words = asked.core.words
    said = asked.traits.matter - more - _FORMAL - _LEADING
    end = len(words)
    while end and words[end - 1] not in said:
        end -= 1
    leads, found = False, 0
    for word in words[end:]:
        leads = leads or word in _LEADING
        is_adverb = word in _ADVERBS or (word.endswith("ly") and len(word) >= _ADVERB_CHARS_MIN)
        found += word in more and (leads or is_adverb)
    return found >= words_min


def _same_form(asked: Reading, row: Reading, more: frozenset[str]) -> bool:
    """Whether they are one sentence but for the words more, which may bring others of form along; of a row that is no
    sentence, but for one word."""
    if row.questions or row.frame.opening:
        return keeps_form(asked, row, but=int(len(more) >= _MORE_FREELY))
    rest = [word for word in asked.words if word not in more]
    return len(set(rest) ^ set(row.words)) <= 1


def _added(asked: Reading, stored: Reading) -> Iterator[str]:
    mine, theirs = asked.particulars, stored.particulars
    if _lacks(mine.owners, stored) or _lacks(theirs.owners, asked):
        yield "owner: it is for, or of, somebody else"
    if (mine.times and not theirs.times) or (theirs.times and not mine.times and stored.units - asked.units):
        yield "time: one says before, after or until when"
    if mine.tense and theirs.tense and mine.tense != theirs.tense:
        yield _TENSE
    if mine.corrections != theirs.corrections:
        yield "correction: one turns round or takes back what it says"
    if mine.prevents != theirs.prevents:
        yield "prevention: one wants it kept from happening"
    if _others_act(asked, stored):
        yield _ACTOR
    if _asks_otherwise(asked, stored) or _asks_otherwise(stored, asked):
        yield _ASKING
    if other := other_answer(asked.asking, stored.asking) or _restricts(asked, stored):
        yield other
    if mine.light and theirs.light and mine.light.isdisjoint(theirs.light):
        yield _ACTING
    if orders_more(asked, stored):
        yield "instruction: the stored question also says what to answer"
    goes_on = _goes_on(asked, stored) and not unmatched(asked, stored)[1] - _FORMAL
    if goes_on or _goes_on(stored, asked) or _asks_on(asked, stored):
        yield "further: one goes on to something else"


def _added_of_few(asked: Reading, stored: Reading) -> Iterator[str]:
    """What `_added` comes to where neither has more particulars than actors and a tense."""
    mine, theirs = asked.particulars, stored.particulars
    if mine.tense and theirs.tense and mine.tense != theirs.tense:
        yield _TENSE
    if mine.actors and theirs.actors and _others_act(asked, stored):
        yield _ACTOR
    if _asks_otherwise(asked, stored) or _asks_otherwise(stored, asked):
        yield _ASKING
    if asked.asking is not stored.asking and (
        other := other_answer(asked.asking, stored.asking) or _restricts(asked, stored)
    ):
        yield other
    if mine.light and theirs.light and mine.light.isdisjoint(theirs.light):
        yield _ACTING


def _lacks(owners: frozenset[str], other: Reading) -> bool:
    return bool(owners) and any(not any(same_word(owner, word) for word in other.words) for owner in owners)


def _others_act(a: Reading, b: Reading) -> bool:
    x, y = a.particulars.actors, b.particulars.actors
    if not x or not y or x.keys().isdisjoint(y):
        return False
    both_open = bool(a.frame.opening and b.frame.opening)
    return any(
        (x[verb] == "1") != (y[verb] == "1") and (both_open or "2" not in (x[verb], y[verb]))
        for verb in x.keys() & y.keys()
    )


def _asks_otherwise(a: Reading, b: Reading) -> bool:
    """Whether `a` asks who does it, whether it should be done or what happens then, and `b` how or when it is done."""
    if a.particulars.outcome and not b.particulars.outcome:
        return "when" in b.questions or "how" in b.questions
    return "how" in b.questions and ("who" in a.questions - b.questions or a.frame.opening == "should")


def _restricts(a: Reading, b: Reading) -> str:
    mine, theirs = a.asking.quantities, b.asking.quantities
    if mine == theirs or not restricts(mine, theirs, whether=_WHETHER in (a.questions, b.questions)):
        return ""
    more, less = unmatched(a, b)
    return "" if (more | less) - _FORMAL else _OF_FEWER


def _goes_on(a: Reading, b: Reading) -> bool:
    """Whether `a` has a further sentence with matter of which nothing is in `b`."""
    return bool(a.particulars.further) and any(
        (matter := sentence - _COURTESIES) and not any(has_word(word, a, b) for word in matter)
        for sentence in a.particulars.further
    )


def _asks_on(asked: Reading, stored: Reading) -> bool:
    """Whether it has a further question of words of form alone ("and why?") of which nothing is in the stored one."""
    asides = asked.particulars.asides - stored.particulars.asides
    return any(aside not in stored.words and aside not in stored.questions for aside in asides)

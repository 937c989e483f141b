"""One notation for figures that are written in several ways: "sixteenth" and "16th", "3 mg" and "three milligrams",
"$5" and "5 dollars", "2 p.m." and "14:00", "half an hour" and "30 minutes", "1st of May" and "May 1", "2+3"
and "2 + 3", "no more than 3" and "at most 3". English.

Promises: pure, total, linear; other figures are never made the same. For the guards alone: the pair model was fitted
without it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from re import Match
from typing import Final

from services.cache.matching.lexicon import UNITS, word_set

__all__ = ["in_one_notation"]

_SMALL: Final = {
    word: number
    for number, word in enumerate(
        (
            *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven"),
            *("twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen"),
        )
    )
}
_TENS: Final = {
    word: 10 * number
    for number, word in enumerate(("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"), 2)
}
_LARGE: Final = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_ORDINALS: Final = (
    {"first": 1, "second": 2, "third": 3, "fifth": 5, "eighth": 8, "ninth": 9, "twelfth": 12}
    | {f"{word}th": number for word, number in _SMALL.items() if number in (4, 6, 7, 10, 11) or number > 12}
    | {f"{word[:-1]}ieth": number for word, number in _TENS.items()}
    | {"hundredth": 100, "thousandth": 1_000}
)
_ENDINGS: Final = {1: "st", 2: "nd", 3: "rd"}
_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_CURRENCIES: Final = {"$": "dollars", "us$": "dollars", "usd": "dollars", "buck": "dollars", "bucks": "dollars",
                      "dollar": "dollars", "€": "euros", "eur": "euros", "euro": "euros", "£": "gbp", "quid": "gbp",
                      "gbp": "gbp", "pounds sterling": "gbp", "¥": "yen", "₹": "rupees", "inr": "rupees"}  # fmt: skip
_SYMBOLS: Final = {"g": "grams", "l": "liters", "L": "liters", "ft": "feet", "h": "hours", "hr": "hours",
                   "hrs": "hours", "min": "minutes", "mins": "minutes", "m": "meters", "sec": "seconds",
                   "secs": "seconds"}  # fmt: skip
_NOT_ROUND: Final = word_set("2 4 8 401")
"""With "k" these are names: "4K", "401k"."""


def _any(words: Sequence[str]) -> str:
    return "|".join(map(re.escape, sorted(words, key=len, reverse=True)))


_NUMBER: Final = _any((*_SMALL, *_TENS, "hundred", *_LARGE))
_ONE_NUMBER: Final = re.compile(rf"\b(?:{_NUMBER})\b", re.IGNORECASE)
_BETWEEN: Final = re.compile(r"[- ]and[- ]|[- ]", re.IGNORECASE)
_MONTH: Final = "|".join((*_MONTHS, *(rf"{month[:3]}\b\.?" for month in _MONTHS), r"Sept\b\.?"))
_UNIT: Final = _any([word for word in UNITS if word.capitalize() not in (*_MONTHS, *_WEEKDAYS)])
_MONEY: Final = r"\d(?:[\d,.]{0,15}\d)?"


def _value(words: Sequence[str]) -> int | None:
    """The number that the words are, or None where they are several."""
    total = group = 0
    for word in words:
        if word in _LARGE:
            total, group = total + (group or 1) * _LARGE[word], 0
        elif word == "hundred":
            if group >= 100:
                return None
            group = (group or 1) * 100
        elif word in _TENS:
            if group % 100:
                return None
            group += _TENS[word]
        else:
            if group % 10 or 0 < group % 100 < 20 or (group % 100 and _SMALL[word] > 9):
                return None
            group += _SMALL[word]
    return total + group


def _in_digits(found: Match[str]) -> str:
    words = _BETWEEN.split(found[1].lower())
    if words == ["one"] and not found[2]:
        return found[0]
    number = _value(words)
    if number is None:
        return _ONE_NUMBER.sub(
            lambda one: one[0] if one[0].lower() == "one" else str(_value([one[0].lower()])), found[0]
        )
    return _nth(number + _ORDINALS[found[2].lower()]) if found[2] else str(number)


def _nth(number: int) -> str:
    return f"{number}{'th' if 10 < number % 100 < 14 else _ENDINGS.get(number % 10, 'th')}"


def _month(name: str) -> str:
    return next(month for month in _MONTHS if month.startswith(name[:3].capitalize()))


def _clock(found: Match[str]) -> str:
    hour, minutes, half = int(found[1]), found[2] or "00", found[3].lower()
    if hour > 12:
        return found[0]
    late = half in ("p", "afternoon", "evening") or (half == "night" and 6 <= hour < 12)
    return f"{hour % 12 + 12 * late}:{minutes}"


def _currency(found: Match[str]) -> str:
    return f"{found['before'] or found['behind']} {_CURRENCIES[(found['sign'] or found['name']).lower()]}"


def _times(found: Match[str]) -> str:
    number = round(float(found[1].replace(",", "")) * _LARGE[found[2].lower()], 2)
    return f"{number:.0f}"


def _thousands(found: Match[str]) -> str:
    return found[0] if found[1] in _NOT_ROUND else f"{float(found[1]) * 1_000:.0f}"


def _weekday(found: Match[str]) -> str:
    return next(day for day in _WEEKDAYS if day.startswith(found[1][:3]))


def _spaced(found: Match[str]) -> str:
    if not any(map(str.isdigit, found[0])):
        return found[0]
    spaced = re.sub(r"\s*([-+*/^=<>()×·÷])\s*", r" \1 ", found[0])
    return spaced.translate(_SIGNS)


_SIGNS: Final = str.maketrans({"×": "*", "·": "*", "÷": "/"})
_OPERAND: Final = r"[-(\s]{0,4}(?:(?<![\d.,])\d[\d.,]{0,15}[a-z]?\b|\b[a-zA-Z]\b)[)\s]{0,4}"
_FIRM: Final = r"(?:\*\*|[+*×·÷^=<>])"
"""Signs of arithmetic alone: "-" and "/" stand in dates and names as well."""

_Written = str | Callable[[Match[str]], str]

_MONTH_WORDS: Final = " ".join((*_MONTHS, *(month[:3] for month in _MONTHS), "sept")).lower()
_UNIT_WORDS: Final = " ".join(UNITS)

_RULES_BY_WORDS: Final[tuple[tuple[str, str, _Written], ...]] = (
    (" ".join(_LARGE), rf"(?i)(?<![\d.,])(\d{{1,9}}(?:,\d{{3}}){{0,3}}(?:\.\d{{1,9}})?) ?({_any(tuple(_LARGE))})\b",
     _times),
    (" ".join((*_SMALL, *_TENS, "hundred", *_LARGE)),
     rf"(?i)\b(?:a (?=(?:hundred|thousand|[mb]illion)\b))?((?:{_NUMBER})(?:(?:[- ]and[- ]|[- ])(?:{_NUMBER}))*)"
     rf"(?:-({_any(tuple(_ORDINALS))}))?\b", _in_digits),
    ("first", rf"(?i)\bfirst(?= of (?:{_MONTH}))", "1st"),
    (" ".join(_ORDINALS),
     rf"(?i)(?<!-)\b({_any([word for word, nth in _ORDINALS.items() if nth > 2])})\b(?! of (?!{_MONTH}))",
     lambda found: _nth(_ORDINALS[found[1].lower()])),
    ("dozen", r"(?i)\bhalf a dozen\b", "6"),
    ("dozen", r"(?i)\b(?:a|one|1) dozen\b", "12"),
    ("fortnight", r"(?i)\b(?:a |one )?fortnight\b", "2 weeks"),
    ("twice", r"(?i)\btwice\b", "2 times"),
    ("thrice", r"(?i)\bthrice\b", "3 times"),
    ("noon midday", r"\b(?:(?<=at )|(?<=by )|(?<=until )|(?<=till )|(?<=after )|(?<=before ))(?:noon|midday)\b",
     "12:00"),
    ("midnight", r"\b(?:(?<=at )|(?<=by )|(?<=until )|(?<=till )|(?<=after )|(?<=before ))midnight\b", "0:00"),
    (_MONTH_WORDS, rf"\b(?:the )?(\d{{1,2}})(?:st|nd|rd|th)?(?: of)? ({_MONTH})(?!\w)",
     lambda found: f"{found[1]} {_month(found[2])}"),
    (_MONTH_WORDS, rf"\b({_MONTH}) (?:the )?(\d{{1,2}})(?:st|nd|rd|th)?\b(?![:.,]?\d)",
     lambda found: f"{found[2]} {_month(found[1])}"),
    (_MONTH_WORDS, rf"(?<=\d )({'|'.join(_MONTHS)}), (?=\d{{4}}\b)", r"\1 "),
    ("am pm m", r"(?i)\b(\d{1,2})(?:[:.](\d\d))? ?([ap])\.?m\b\.?", _clock),
    ("morning afternoon evening",
     r"(?i)\b(\d{1,2})(?::(\d\d))?(?: o'clock)? (?:in the (morning|afternoon|evening))\b", _clock),
    (":", r"\b0(?=\d:\d\d\b)", ""),
    ("$ € £ ¥ ₹ usd buck bucks dollar eur euro gbp quid sterling inr",
     rf"(?i)(?P<sign>us\$|[$€£¥₹]) ?(?P<before>{_MONEY})|\b(?P<behind>{_MONEY}) ?(?P<name>[$€£¥₹]|"
     rf"(?:usd|bucks?|dollar|eur|euro|gbp|quid|pounds sterling|inr)\b)", _currency),
    (",", r"(?<=\d),(?=\d{3}(?!\d))", ""),
    ("k", r"\b(\d{1,9}(?:\.\d{1,9})?)[kK]\b", _thousands),
    ("% cent", r"(?<=\d) ?(?:%|per cent\b)", " percent"),
    (" ".join(_SYMBOLS).lower(), rf"(?:(?<=\d )|(?<=\d\d))({'|'.join(_SYMBOLS)})\b(?!/)",
     lambda found: f" {_SYMBOLS[found[1]]}"),
    (_UNIT_WORDS, rf"(?<=\d)(?=(?:{_UNIT})\b)", " "),
    ("-", r"(?<![\w.,:/+-])(\d+)-(?=[a-z]{3})", r"\1 "),
    ("st", r"\b1st\b", "first"),
    ("nd", r"\b2nd\b", "second"),
    (_UNIT_WORDS, rf"(?<![\d.,:/-])\b1 (?=(?:{_UNIT})\b)", "a "),
    ("+ - * / ^ × · ÷",
     rf"(?i)\b(?:what(?:'s| is)|calculate|compute|evaluate|solve|how much is)\s+{_OPERAND}(?:[-+*/^×·÷]{_OPERAND})+",
     _spaced),
    ("+ - * / ^ × · ÷ = < >", rf"{_OPERAND}(?:{_FIRM}{_OPERAND}|(?<=\s)[-/](?=\s){_OPERAND})+", _spaced),
    ("half hours", r"(?i)\b(?:an|one|a) hour and a half\b|\b(?:one and a half|1\.5) hours\b", "90 minutes"),
    ("hour hours", r"(?i)\b(?:(?:a )?half(?:[- ]an|[- ]a)?|1/2|0\.5) hours?\b", "30 minutes"),
    ("quarter", r"(?i)\b(?:a )?quarter(?: of an| of a|-)? ?hour\b", "15 minutes"),
    ("minutes", r"(?i)\b60 minutes\b", "a hour"),
    ("one", rf"(?i)\bone (?=(?:{_UNIT})\b)", "a "),
    ("km kph kmh kmph kilometer kilometers kilometre kilometres",
     r"(?i)\b(?:km/h|kph|kmh|kmph|(?:kilomet(?:er|re)s?|km) (?:per|an|a) hour)\b", "km/h"),
    ("mph mile miles", r"(?i)\b(?:mph|miles? (?:per|an) hour)\b", "mph"),
    ("° degree degrees celsius", r"(?i) ?(?:(?:°|\bdegrees? )(?:c|celsius|centigrade)|\bcelsius)\b", " Celsius"),
    ("° degree degrees fahrenheit", r"(?i) ?(?:(?:°|\bdegrees? )(?:f|fahrenheit)|\bfahrenheit)\b", " Fahrenheit"),
    ("mon tue tues wed thu thur thurs fri", r"\b(Mon|Tues?|Wed|Thu(?:rs?)?|Fri)\b\.?", _weekday),
    ("sat sun", r"(?<=\b[oO]n )(Sat|Sun)\b\.?", _weekday),
    ("than maximum up", r"(?i)\b(?:no|not) (?:more|greater) than\b|\ba maximum of\b|\bup to(?= \d)", "at most"),
    ("than minimum", r"(?i)\b(?:no|not) (?:fewer|less) than\b|\ba minimum of\b", "at least"),
    ("or", r"(?i)\b(\d+|one) or (?:more|above|over)\b", r"at least \1"),
    ("or", r"(?i)\b(\d+) or (?:fewer|less|below|under)\b", r"at most \1"),
    ("than", r"(?i)\bmore than one\b(?= [a-z])", "at least 2"),
    ("than", rf"(?i)\bmore than (\d{{1,9}})(?= (?!(?:{_UNIT})\b)[a-z])", lambda found: f"at least {int(found[1]) + 1}"),
    ("than", rf"(?i)\b(?:fewer|less) than (\d{{1,9}})(?= (?!(?:{_UNIT})\b)[a-z])",
     lambda found: f"at most {int(found[1]) - 1}"),
)  # fmt: skip
"""In their order; each for texts that have one of its words or signs."""

_RULES: Final = tuple(
    (frozenset(words.split()), re.compile(pattern), written) for words, pattern, written in _RULES_BY_WORDS
)
_TELLING: Final = frozenset((*_SMALL, *_TENS, *_LARGE, *_ORDINALS)) - word_set("one first second") | word_set("""
    hundred dozen twice thrice fortnight noon midday midnight maximum minimum km kph kmh kmph kilometer kilometers
    kilometre kilometres mph mile miles celsius fahrenheit degree degrees mon tue tues wed thu thur thurs fri sat sun
    half quarter
""")
"""Without a digit, and without one of these words, only "one" and "first" may have to be written otherwise."""

_WITH_ONE: Final = frozenset((*UNITS, "or", "than"))
_FIGURE: Final = re.compile(r"\d|°")
_SIGN: Final = re.compile(r"[^\w\s]")


def in_one_notation(text: str, words: Sequence[str]) -> str:
    """The text with its figures in one notation; `words`: its words in lower case."""
    if not _FIGURE.search(text) and _TELLING.isdisjoint(words) and not _tells_of_one(words):
        return text
    said = frozenset((*words, *_SIGN.findall(text)))
    for telling, pattern, written in _RULES:
        if not telling.isdisjoint(said):
            text = pattern.sub(written, text)
    return text


def _tells_of_one(words: Sequence[str]) -> bool:
    return ("one" in words and not _WITH_ONE.isdisjoint(words)) or ("first" in words and "of" in words)

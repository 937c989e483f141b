r"""Brings a final answer into a form in which equal answers are equal.

Promises: pure; never raises on any text; bounded in length, depth and digits. Each function returns None when the
text is not of its form: a number (1,200; $12.0; 3/4; 1\frac{3}{4}; 50 %; 12 apples), the letter of a choice, a Python
or JSON literal, or folded text.

A missing unit, % and currencies included, is no difference: models often leave it out in word problems. Of pairs of
recorded answers to GSM8K with the same number, both are right in 98.3 % when the units are alike (30,464 pairs), in
100 % when one of them has no % (128), in 98.2 % when one has no currency (2,671), in 97.5 % when one has no other unit
(804). Two units that differ are a difference, but amounts of money are compared in dollars.
"""

from __future__ import annotations

import ast
import cmath
import json
import re
import string
import unicodedata
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from services.executor.gates.final_answer import nesting_depth

__all__ = ["Number", "choice", "literal", "number", "text"]

_CHARS_MAX: Final = 20_000
_NUMBER_CHARS_MAX: Final = 200
_DIGITS_MAX: Final = 60
_DEPTH_MAX: Final = 50

_NUMBER: Final = re.compile(
    r"(?P<sign>[-+−–]?)\s*(?P<currency>US\$|USD|EUR|GBP|\\?\$|€|£|¥|₹)?\s*(?P<sign2>[-−]?)"
    r"(?P<whole>\d{1,3}(?:(?:,|\{,\}|\\,|\\!|,\\!|\u202F|\u00A0)\d{3})+|\d+|(?=\.\d))(?:\.(?P<decimals>\d*))?"
    r"(?:[eE](?P<exponent>[-+]?\d{1,2}))?"
    r"(?:\s*/\s*(?P<denominator>\d+))?"
    r"\s*(?P<unit>.*)",
    re.DOTALL,
)
_FRACTION: Final = re.compile(r"\\[dt]?frac\s*(?:\{\s*(-?\d+)\s*\}|(\d))\s*(?:\{\s*(-?\d+)\s*\}|(\d))")
_MIXED_FRACTION: Final = re.compile(r"(?<=\d)\s*(?=\\[dt]?frac(?![A-Za-z]))")
_MIXED: Final = re.compile(r"([-−–]?)\s*(\d+)\s+(\d+)\s*/\s*(\d+)\s*(?P<unit>.*)", re.DOTALL)
_UNIT: Final = re.compile(r"(?:\\?%|°|º|¢)|(?:(?:\\?%|°|º)\s*)?[^\W\d_][^\d=+*/^<>\\{}\[\]()]{0,60}")
_ASSIGNED: Final = re.compile(r"\A\\?[A-Za-z]\w{0,10}(?:\([A-Za-z]\))?\s*=\s*(?=\S)")
_CHOICE: Final = re.compile(
    r"(?:(?:option|choice|answer)\s+)?[(\[]?([A-Ja-j])(?:[)\]]|(?:[.:](?=\s|\Z))|\Z)(?P<rest>.*)",
    re.DOTALL | re.IGNORECASE,
)
_CURRENCIES: Final = {
    "$": "$", "us$": "$", "usd": "$", "dollar": "$", "dollars": "$", "buck": "$", "bucks": "$",
    "¢": "¢", "cent": "¢", "cents": "¢",
    "€": "€", "eur": "€", "euro": "€", "euros": "€", "£": "£", "gbp": "£", "¥": "¥", "yen": "¥", "₹": "₹",
}  # fmt: skip
_DOLLARS: Final = {"$": Fraction(1), "¢": Fraction(1, 100)}
_SCALES: Final = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
_PREFIXES: Final = frozenset({"square", "sq", "cubic", "cu"})  # of a unit that is the next word
# Short units mean something else in capitals (m, M; mW, MW), but for these.
_CASELESS: Final = frozenset({"am", "pm", "kg", "km", "cm", "mm", "ml", "hr", "ft", "in", "lb", "oz"})
_JSON_WORDS: Final = {"true": True, "false": False, "null": None}
_EXCLAIMED: Final = re.compile(r"(?<=[^\W\d_][^\W\d_])[\s\"']{0,4}!{1,8}\Z")  # behind anything but a word: a factorial
_LATEX_NOISE: Final = re.compile(
    r"\\(?:left|right|displaystyle|,|;|!|:|quad|qquad|\s|bigl?|bigr?|Bigl?|Bigr?|mathrm|mathbf|textbf|text|operatorname|mbox|rm|bf)"
    r"(?![A-Za-z])"
)
_LATEX_WORDS: Final = (
    (re.compile(r"\\[dt]frac(?![A-Za-z])"), r"\\frac"),
    (re.compile(r"\\frac\s*(\d)\s*(\d)(?!\d)"), r"(\1)/(\2)"),
    (re.compile(r"\\frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"(\1)/(\2)"),
    (re.compile(r"√\s*\(?(\w+)\)?"), r"sqrt(\1)"),
    (re.compile(r"\\?sqrt\s*\{([^{}]*)\}"), r"sqrt(\1)"),
    (re.compile(r"\\?sqrt\s*(\d)(?![\d(])"), r"sqrt(\1)"),
    (re.compile(r"\\(?:cdot|times|ast)(?![A-Za-z])|[×·∙]"), "*"),
    (re.compile(r"\\infty(?![A-Za-z])|infinity|∞"), "inf"),
    (re.compile(r"\\cup(?![A-Za-z])|∪"), "U"),
    (re.compile(r"\\leq?(?![A-Za-z])|≤"), "<="),
    (re.compile(r"\\geq?(?![A-Za-z])|≥"), ">="),
    (re.compile(r"\\pi(?![A-Za-z])|π"), "pi"),
    (re.compile(r"\\pm(?![A-Za-z])|±"), "+-"),
    (re.compile(r"\^\s*(?:\\circ(?![A-Za-z])|\{\\circ\}|∘|°)|°|\\degree(?![A-Za-z])"), ""),
    (re.compile(r"\*\*"), "^"),
    (re.compile(r"(?<!\w)\((\w+)\)/\((\w+)\)(?!\w)"), r"\1/\2"),
    (re.compile(r"(?<=[\w)])\s*\*\s*(?=[A-Za-z(\\])"), ""),
)


@dataclass(frozen=True, slots=True)
class Number:
    """An exact value, and its unit folded ("" when there is none, "%" for a percentage, "$" for dollars)."""

    value: Fraction
    unit: str = ""

    def same(self, other: Number) -> bool:
        """Equal in value; units must be equal only when both have one. Dollars and cents are compared by worth."""
        if self.unit in _DOLLARS and other.unit in _DOLLARS:
            return self.value * _DOLLARS[self.unit] == other.value * _DOLLARS[other.unit]
        return self.value == other.value and (not self.unit or not other.unit or self.unit == other.unit)


def number(raw: str) -> Number | None:
    """The number that `raw` is, or None when it is something else or more than one number."""
    cleaned = _ASSIGNED.sub("", _undollar(raw.strip())).strip().rstrip(".").strip()
    if not cleaned or len(cleaned) > _NUMBER_CHARS_MAX:
        return None
    cleaned = re.sub(r"\\(?:text|mathrm|textbf)\s*\{([^{}]*)\}", r" \1", cleaned)
    cleaned = re.sub(r"\\[,;!: ]|~", "", cleaned)
    cleaned = re.sub(r"\s*\^\s*(?:\\circ|\{\\circ\})", "°", cleaned)
    cleaned = _MIXED_FRACTION.sub(" ", cleaned)
    cleaned = _FRACTION.sub(lambda m: f"{m[1] or m[2]}/{m[3] or m[4]} ", cleaned).strip()
    mixed = _MIXED.fullmatch(cleaned)
    if mixed and len(cleaned) <= _DIGITS_MAX and int(mixed[4]):
        value = int(mixed[2]) + Fraction(int(mixed[3]), int(mixed[4]))
        return _with_unit(-value if mixed[1] else value, mixed["unit"])
    match = _NUMBER.fullmatch(cleaned)
    if match is None or (match["sign"] and match["sign2"]):
        return None
    whole = re.sub(r"\D", "", match["whole"])
    decimals = match["decimals"] or ""
    denominator = match["denominator"] or "1"
    if len(whole) + len(decimals) > _DIGITS_MAX or len(denominator) > _DIGITS_MAX or not int(denominator):
        return None
    value = Fraction(int((whole + decimals) or "0"), 10 ** len(decimals) * int(denominator))
    value *= Fraction(10) ** int(match["exponent"] or 0)
    negative = bool(match["sign"] and match["sign"] != "+") or bool(match["sign2"])
    return _with_unit(-value if negative else value, match["unit"], match["currency"] or "")


def choice(raw: str) -> str | None:
    """The upper-case letter of the option that `raw` names: "B", "(b)", "B) because", "option C"."""
    match = _CHOICE.match(raw.strip().strip("*_` \"'$").strip())
    if match is None:
        return None
    letter = match.group(1)
    if match["rest"].strip() and letter.islower() and raw.strip()[:1] not in "([":
        return None  # "a. m." and the like
    return letter.upper()


def literal(raw: str) -> object | None:
    """The value of the Python or JSON literal that `raw` is, wrapped so that it compares by type and value.

    Returns a hashable key, or None when it is no literal. 1 and True differ, 1 and 1.0 do not.
    """
    cleaned = raw.strip()
    if not cleaned or len(cleaned) > _CHARS_MAX or nesting_depth(cleaned) > _DEPTH_MAX:
        return None
    if cleaned in _JSON_WORDS:
        return _key(_JSON_WORDS[cleaned])
    for parse in (ast.literal_eval, json.loads):
        try:
            return _key(parse(cleaned))
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
            continue
    return None


def text(raw: str) -> str:
    """`raw` without markup, outer quotes and a last point, and folded in case, spaces and LaTeX's spellings."""
    cleaned = unicodedata.normalize("NFKC", raw[:_CHARS_MAX]).strip().strip("*_`").strip()
    if len(cleaned) >= 2 and cleaned[0] == cleaned[-1] and cleaned[0] in "\"'“”":
        cleaned = cleaned[1:-1]
    cleaned = _ASSIGNED.sub("", _undollar(cleaned))
    cleaned = _LATEX_NOISE.sub(" ", cleaned)
    for pattern, plain in _LATEX_WORDS:
        cleaned = pattern.sub(plain, cleaned)
    cleaned = re.sub(r"\{([^{}]{0,200})\}", r"\1", cleaned.replace("\\{", "").replace("\\}", ""))
    cleaned = cleaned.casefold().strip(string.whitespace + ".,;:?\"'")
    cleaned = _EXCLAIMED.sub("", cleaned).rstrip(string.whitespace + ".,;:?\"'")
    # Spaces separate words; next to anything else they mean nothing.
    cleaned = " ".join(cleaned.split())
    return re.sub(r"(?<=\W) | (?=\W)", "", cleaned)


def _with_unit(value: Fraction, raw: str, currency: str = "") -> Number | None:
    """The number with what stands behind it: a scale ("million"), a unit, both. None when that is something else."""
    words = raw.strip()
    first, _, rest = words.partition(" ")
    if first.casefold() in _SCALES:
        value *= 10 ** _SCALES[first.casefold()]
        words = rest.strip()
    if words and not _UNIT.fullmatch(words):
        return None
    money = _CURRENCIES.get(currency.casefold().lstrip("\\"), "")
    return Number(value, money or _unit(words))


def _unit(raw: str) -> str:
    written = raw.strip().replace("\\", "").strip(" .")
    folded = written.casefold()
    if folded in {"percent", "percentage", "per cent"}:
        return "%"
    if folded in {"degrees", "degree", "º"}:
        return "°"
    words = folded.split()
    if not words:
        return ""
    if words[0] in _CURRENCIES:
        return _CURRENCIES[words[0]]
    if len(words[0]) <= 2:
        return words[0] if words[0] in _CASELESS else written.split()[0]
    unit = " ".join(words[: 2 if words[0] in _PREFIXES else 1])
    return unit.removesuffix("s")


def _undollar(raw: str) -> str:
    r"""`raw` without TeX's math signs around it; a lone $ is a currency and stays."""
    stripped = raw.strip().strip("*`").strip()
    for left, right in (("$$", "$$"), ("\\(", "\\)"), ("\\[", "\\]"), ("$", "$")):
        if len(stripped) > len(left) + len(right) and stripped.startswith(left) and stripped.endswith(right):
            return stripped[len(left) : -len(right)].strip()
    return stripped


def _key(value: object) -> object:
    """A hashable stand-in for `value`: containers by kind, numbers by value, the rest by type and value."""
    if isinstance(value, (list, tuple)):
        return ("list" if isinstance(value, list) else "tuple", *(_key(item) for item in value))
    if isinstance(value, dict):
        return ("dict", frozenset((_key(key), _key(item)) for key, item in value.items()))
    if isinstance(value, (set, frozenset)):
        return ("set", frozenset(_key(item) for item in value))
    if isinstance(value, bool) or value is None:
        return (type(value).__name__, value)
    if isinstance(value, (float, complex)) and not cmath.isfinite(value):
        raise ValueError("beyond what a float holds: other numbers would look the same")
    if isinstance(value, (int, float)):
        return ("number", value)
    if isinstance(value, str):
        return ("str", value)
    return (type(value).__name__, value)

r"""Checks the sums that a text writes out: "3 x 60 = 180", "<<2*4=8>>", "$40{,}000 \div 1.3 = $30,769.23".

Promises: pure; never raises on any text; linear in the text, of which at most `TEXT_CHARS_MAX` characters are read.
Units between the numbers are skipped. What cannot be read as one plain sum (variables, brackets, powers) is not
counted; it is no evidence either way. A result counts as right when rounding to the digits shown explains it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

__all__ = ["RESULTS_MAX", "TEXT_CHARS_MAX", "Sums", "check_sums"]

TEXT_CHARS_MAX: Final = 12_000
_TERMS_MAX: Final = 24
RESULTS_MAX: Final = 64
_UNIT_WORDS_MAX: Final = 3
_TOKEN: Final = re.compile(
    r"(?P<number>\d{1,3}(?:(?:,|\{,\})\d{3})+(?:\.\d+)?|\d{1,15}(?:\.\d{1,12})?|\.\d{1,12})"
    r"|(?P<times>\\{1,2}(?:times|cdot)(?![a-z])|[*×·⋅])"
    r"|(?P<over>\\{1,2}div(?![a-z])|[/÷])"
    r"|(?P<sign>[-+−–])"
    r"|(?P<equals>=)"
    r"|(?P<percent>\\{0,2}%)"
    r"|(?P<word>[^\W\d_]+)"
    r"|(?P<skip>\\{1,2}[,;! ]|[\s$€£¥\u00a0\u202f]+)"
    r"|(?P<other>.)",
    re.DOTALL,
)
_BREAKING_WORDS: Final = frozenset({"and", "or", "so", "then", "plus", "minus", "is", "than", "by", "to", "from", "if"})


@dataclass(frozen=True, slots=True)
class Sums:
    """How many sums were read, how many of them are wrong, how many have a result that is not whole; how many multiply
    or divide; and the results as they are written, of which the last `RESULTS_MAX` are kept."""

    read: int = 0
    wrong: int = 0
    fractional: int = 0
    products: int = 0
    quotients: int = 0
    results: tuple[float, ...] = ()


class _Sum:
    """The left side of one sum while it is read."""

    __slots__ = ("is_percent", "operators", "pending", "terms", "words")

    def __init__(self, first: float | None = None) -> None:
        self.terms: list[float] = [] if first is None else [first]
        self.is_percent: list[bool] = [] if first is None else [False]
        self.operators: list[str] = []
        self.pending = ""
        self.words = 0

    def number(self, value: float) -> bool:
        """Takes a term; False when it does not follow an operator."""
        if self.terms and not self.pending:
            return False
        if self.terms:
            self.operators.append(self.pending)
        self.terms.append(value)
        self.is_percent.append(False)
        self.pending, self.words = "", 0
        return len(self.terms) <= _TERMS_MAX

    def value(self, *, percent: bool) -> float | None:
        """The value, or None when it has none; `percent`: 30 % is 0.3 and not 30."""
        if len(self.terms) < 2 or self.pending:
            return None
        numbers = [t / 100 if percent and p else t for t, p in zip(self.terms, self.is_percent, strict=True)]
        total, product = 0.0, numbers[0]
        for operator, number in zip(self.operators, numbers[1:], strict=True):
            if operator == "*":
                product *= number
            elif operator == "/":
                if number == 0:
                    return None
                product /= number
            else:
                total += product
                product = number if operator == "+" else -number
        return total + product


def check_sums(text: str) -> Sums:
    """Reads every sum in `text`. A long text's end counts: there the answer is worked out."""
    read = wrong = fractional = products = quotients = 0
    results: list[float] = []
    left = _Sum()
    waiting: _Sum | None = None  # its result comes next
    sign = 1.0
    for match in _TOKEN.finditer(text[-TEXT_CHARS_MAX:]):
        kind = match.lastgroup
        if kind == "skip":
            continue
        if waiting is not None:
            if kind == "sign" and match.group() != "+":
                sign = -1.0
                continue
            if kind == "number":
                shown = match.group().replace("{,}", "").replace(",", "")
                result = sign * float(shown)
                verdict = _verdict(waiting, result, shown)
                if verdict is not None:
                    read += 1
                    wrong += not verdict
                    fractional += not float(shown).is_integer()
                    products += "*" in waiting.operators
                    quotients += "/" in waiting.operators
                    results.append(result)
                left, waiting, sign = _Sum(result), None, 1.0
                continue
            waiting, sign = None, 1.0
            left = _Sum()
        if kind == "number":
            if not left.number(float(match.group().replace("{,}", "").replace(",", ""))):
                left = _Sum(float(match.group().replace("{,}", "").replace(",", "")))
        elif kind == "equals":
            waiting, left = (left, _Sum()) if left.terms and not left.pending else (None, _Sum())
        else:
            left = _next(left, str(kind), match.group())
    return Sums(read, wrong, fractional, products, quotients, tuple(results[-RESULTS_MAX:]))


def _next(left: _Sum, kind: str, token: str) -> _Sum:  # noqa: PLR0911 - one line per kind
    """The left side after a token that is neither a number nor an equals sign."""
    if not left.terms:
        return left
    if kind in ("times", "over", "sign"):
        if left.pending:
            return _Sum()
        left.pending = {"times": "*", "over": "/", "+": "+"}.get(token if kind == "sign" else kind, "-")
        return left
    if kind == "percent":
        if left.pending:
            return _Sum()
        left.is_percent[-1] = True
        return left
    if kind == "word":
        word = token.casefold()
        if word == "x" and not left.pending:
            left.pending = "*"
            return left
        if word == "of" and left.is_percent[-1] and not left.pending:
            left.pending = "*"
            return left
        if left.pending == "/":  # a unit: "60 meters/sprint"
            left.pending = ""
        left.words += 1
        if not left.pending and word not in _BREAKING_WORDS and left.words <= _UNIT_WORDS_MAX:
            return left
    return _Sum()


def _verdict(left: _Sum, result: float, shown: str) -> bool | None:
    """Whether `result`, as `shown`, is the value of `left`; None when that has no value."""
    decimals = len(shown.partition(".")[2])
    tolerance = 0.51 * 10.0**-decimals if decimals else 1e-6
    found = False
    for percent in (True, False):
        value = left.value(percent=percent)
        if value is None:
            continue
        found = True
        slack = tolerance + 1e-9 * abs(value)
        if abs(value - result) <= slack or (any(left.is_percent) and abs(100 * value - result) <= slack):
            return True
        if not decimals and abs(round(value) - result) <= slack and abs(value) >= 100:
            return True  # a large result given to the next whole number
    return False if found else None

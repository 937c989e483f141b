"""What can be observed of an answer without asking anybody: a fixed, named vector of numbers, each of which may be
missing. `observation` reads it, `calibration` turns it into one probability.

Promises: values are bounded, so one strange text cannot outweigh all else. None means "not observed", never "no".
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

__all__ = ["NAMES", "Signals"]


@dataclass(frozen=True, slots=True)
class Signals:
    """The vector. Shares and flags are 0 to 1; names with `log_` are log2(1 + count) / 10, words per line and sentence
    are logarithms too, and words of a kind are dampened rates in answers and tens in questions; all are at most 2."""

    # Agreement. "first" to "fourth" are the opinions in their order; with_answer and rivals are over all of them.
    agrees_first: float | None = None
    agrees_second: float | None = None
    agrees_third: float | None = None
    agrees_fourth: float | None = None
    agreeing_share: float | None = None
    rivals_share: float | None = None
    # The final answer.
    has_final_answer: float | None = None
    has_expected_form: float | None = None
    is_whole_number: float | None = None
    is_negative: float | None = None
    log_answer_chars: float | None = None
    log_magnitude: float | None = None
    recurs_in_reasoning: float | None = None
    is_last_number: float | None = None
    # The way to it.
    log_numbers: float | None = None
    log_distinct_numbers: float | None = None
    log_sums: float | None = None
    sums_wrong_share: float | None = None
    any_sum_wrong: float | None = None
    sums_fractional_share: float | None = None
    results_used_share: float | None = None
    results_distinct_share: float | None = None
    products_share: float | None = None
    quotients_share: float | None = None
    last_result_is_answer: float | None = None
    answer_is_a_result: float | None = None
    answer_is_in_question: float | None = None
    question_numbers_used: float | None = None
    log_sums_per_number: float | None = None
    words_per_line: float | None = None
    log_text_chars: float | None = None
    log_length_ratio: float | None = None
    log_steps: float | None = None
    repetition: float | None = None
    hedges: float | None = None
    corrections: float | None = None
    checks: float | None = None
    is_json_broken: float | None = None
    seems_cut: float | None = None
    tex_in_answer: float | None = None
    # The question.
    log_question_chars: float | None = None
    log_question_numbers: float | None = None
    log_question_sentences: float | None = None
    words_per_sentence: float | None = None
    part_words: float | None = None
    rate_words: float | None = None
    comparison_words: float | None = None
    quantity_words: float | None = None
    question_has_code: float | None = None
    question_has_tex: float | None = None
    question_has_options: float | None = None
    # What the model or the provider says.
    self_confidence: float | None = None
    logprob_mean: float | None = None
    logprob_min: float | None = None

    def values(self) -> tuple[float | None, ...]:
        """The numbers in the order of `NAMES`."""
        return tuple(getattr(self, name) for name in NAMES)


NAMES: Final = tuple(field.name for field in fields(Signals))

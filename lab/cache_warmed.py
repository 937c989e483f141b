"""Near misses asked of a class that has learned to serve: how many are served, and how many paraphrases.

    python -m lab.cache_warmed FILE [--broad] [--half NAME] [--seeds 1 2 3] [--limit 0.005] [--warm STREAM] [--show]

FILE has pairs (`a`, `b`, `same`, perhaps `half`). The class first learns from an easy made stream of some 2,500
lookups: 120 things to do in 18 to 25 forms each, every `a` in ten forms, and the first half of its paraphrases. Then
every near miss, and the paraphrases that were not in the stream, are asked, and nothing is learned from them. Proposal,
pair model, guards and risk control are the product's own. A near miss counts as served whatever answer it is given.

With --broad FILE has broad answers (`answer`, `stored`, `near_misses`, `paraphrases`, perhaps `half`): the stored
questions are asked in the stream, each once, and no paraphrase is. With --warm WARM_QUESTIONS of STREAM (`text`,
`answer`) are in the stream as well, the same ones whatever the seed: a class that saw easy questions alone is none of a
tenant. Intervals are 95 %, questions counted as independent; those of one answer are not, quite.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import numpy as np

from lab.cache_data import (
    BroadAnswer,
    CacheDataError,
    Pairs,
    Stream,
    embed,
    read_broad_answers,
    read_cache_file,
)
from lab.cache_online import OnlineClass, PairJudge
from lab.cache_stream import PACKAGED_MODEL
from lab.cache_whole_answers import by_half
from services.cache.matching.pair_model import PairModel, PairModelError, parse_pair_model
from services.cache.matching.risk_control import RiskPolicy
from spillway.intervals import wilson

__all__ = ["Questions", "Warmed", "main", "of_broad_answers", "of_pairs", "warmed"]

AUDIT_RATE: Final = 0.05
GRID_FORMS: Final = 18
WARM_QUESTIONS: Final = 6_000
WARM_SEED: Final = 99

FORMS: Final = (
    "How do I {}?", "how can I {}", "What is the way to {}?", "What are the steps to {}?", "I want to {}, how?",
    "please tell me how to {}", "how to {}", "Could you explain how to {}?", "How would I {}?", "what must I do to {}",
    "I need to {}. How?", "in what way do I {}", "tell me how I can {}", "how should I {}?", "Is there a way to {}?",
    "hello, how do I {}?", "what's the best way to {}", "help me {}", "how does one {}", "guide me: {}",
    "I'd like to {}", "where do I {}?", "what do I need to do in order to {}?", "show me how to {}",
    "can you help me {}?",
)  # fmt: skip
DONE: Final = (
    "reset my password", "update my shipping address", "download an invoice", "book a meeting room",
    "change my email address", "connect my printer", "rotate an API key", "install the mobile app", "track a parcel",
    "merge two accounts", "translate a document", "share a folder", "create a backup", "renew a licence",
    "report a bug", "upload a photo", "print a label", "apply a voucher", "contact the support team",
    "configure the VPN",
)  # fmt: skip
ACTIONS: Final = ("change", "cancel", "activate", "delete", "find", "export", "check", "repair", "share", "move")
OBJECTS: Final = (
    "my password", "my debit card", "my account", "an order", "the app", "a booking", "my e-mail address",
    "the printer", "an invoice", "my subscription",
)  # fmt: skip
COURTESIES: Final = (
    "{}", "Hi, {}", "Hello! {}", "{} Thanks", "please tell me: {}", "Quick question: {}", "I wonder, {}",
    "{} thank you", "good morning, {}", "Excuse me, {}",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Warmed:
    """What was served: `near_misses` by kind and text, of `near_misses_asked`; of the paraphrases that were kept aside
    so many, and so many of these with an answer that is not theirs; the share of hits in the stream, and of its lookups
    those served wrongly."""

    near_misses: tuple[tuple[str, str], ...]
    near_misses_asked: int
    paraphrases: int
    paraphrases_wrong: int
    paraphrases_asked: int
    stream_hits: float
    stream_wrong: float


@dataclass(frozen=True, slots=True)
class Questions:
    """What a class is asked: `stream`, each text with the name of its answer; then `near_misses`, each with its kind,
    and `paraphrases`, each with its answer's name."""

    stream: tuple[tuple[str, str], ...]
    near_misses: tuple[tuple[str, str], ...]
    paraphrases: tuple[tuple[str, str], ...]


def of_pairs(pairs: Pairs) -> Questions:
    """Every `a` in ten forms and half of its paraphrases are in the stream."""
    stream: list[tuple[str, str]] = []
    for asked, (inside, _) in _paraphrases(pairs).items():
        inner = asked[0].lower() + asked[1:]
        stream += ((form.format(asked if form.startswith("{}") else inner), asked) for form in COURTESIES)
        stream += ((text, asked) for text in inside)
    aside = ((asked, text) for asked, (_, kept) in _paraphrases(pairs).items() for text in kept)
    near = ((kind, b) for b, same, kind in zip(pairs.b, pairs.same, pairs.kinds or pairs.b, strict=True) if not same)
    return Questions(tuple(stream), tuple(near), tuple((text, asked) for asked, text in aside))


def of_broad_answers(answers: Sequence[BroadAnswer]) -> Questions:
    """The stored questions are in the stream, each once."""
    return Questions(
        tuple((text, answer.name) for answer in answers for text in answer.stored),
        tuple((answer.name, text) for answer in answers for text in answer.near_misses),
        tuple((text, answer.name) for answer in answers for text in answer.paraphrases),
    )


def _easy() -> Iterator[tuple[str, str]]:
    """Made texts, each with the name of its answer."""
    for action in DONE:
        yield from ((form.format(action), action) for form in FORMS)
    grid = [f"{action} {thing}" for action in ACTIONS for thing in OBJECTS]
    for number, action in enumerate(grid):
        yield from ((form.format(action), f"grid {action}") for form in Random(number).sample(FORMS, GRID_FORMS))


def _drawn(warm: Stream | None) -> Iterator[tuple[str, str]]:
    rows = range(0) if warm is None else range(len(warm))
    for row in Random(WARM_SEED).sample(rows, min(WARM_QUESTIONS, len(rows))):
        if warm is not None:
            yield warm.texts[row], f"warm {warm.answers[row]}"


def warmed(questions: Questions, model: PairModel, *, limit: float, seed: int, warm: Stream | None = None) -> Warmed:
    """Of one order of the stream, the easy questions and those of `warm` taken in."""
    stream = [*_easy(), *_drawn(warm), *questions.stream]
    Random(seed).shuffle(stream)
    near, aside = questions.near_misses, questions.paraphrases
    texts = sorted({text for text, _ in (*stream, *aside)} | {text for _, text in near})
    vectors, row_of = embed(texts), {text: row for row, text in enumerate(texts)}
    names = {name: number for number, name in enumerate(sorted({name for _, name in stream}))}
    learning = OnlineClass(
        vectors @ vectors.T, PairJudge(model, texts, vectors), RiskPolicy(limit, AUDIT_RATE), Random(seed)
    )
    told = [learning.ask(row_of[text], names[name]) for text, name in stream]
    asked_near = [(each, learning.peek(row_of[each[1]])[0]) for each in near]
    found = [(names[name], *learning.peek(row_of[text])) for text, name in aside]
    served = [right == answer for right, decision, answer in found if decision is not None and decision.serve]
    return Warmed(
        near_misses=tuple(each for each, decision in asked_near if decision is not None and decision.serve),
        near_misses_asked=len(near),
        paraphrases=len(served),
        paraphrases_wrong=served.count(False),
        paraphrases_asked=len(aside),
        stream_hits=float(np.mean([decision.serve for decision, _ in told])),
        stream_wrong=float(np.mean([decision.serve and not right for decision, right in told])),
    )


def _paraphrases(pairs: Pairs) -> dict[str, tuple[list[str], list[str]]]:
    """By question, those of the stream and those kept aside."""
    found: dict[str, list[str]] = {asked: [] for asked in pairs.a}
    for a, b, same in zip(pairs.a, pairs.b, pairs.same, strict=True):
        if same:
            found[a].append(b)
    return {asked: (texts[: len(texts) // 2], texts[len(texts) // 2 :]) for asked, texts in found.items()}


def _questions(path: Path, *, broad: bool) -> list[tuple[str, Questions]]:
    """By half. Raises CacheDataError and OSError."""
    if not broad:
        return [(half, of_pairs(pairs)) for half, pairs in by_half(path)]
    answers = read_broad_answers(path)
    halves = sorted({answer.half for answer in answers})
    return [(half, of_broad_answers([answer for answer in answers if answer.half == half])) for half in halves]


def _stream(path: Path | None) -> Stream | None:
    found = None if path is None else read_cache_file(path)
    if isinstance(found, Pairs):
        raise CacheDataError("a class is warmed by a stream (text, answer)")
    return found


def _count(served: int, asked: int) -> str:
    """With Wilson's interval."""
    if not asked:
        return "0 of 0"
    found = wilson(served, asked)
    return f"{served} of {asked} [{found.low:.3f}, {found.high:.3f}]"


def _line(found: Warmed) -> str:
    return (
        f"{_count(len(found.near_misses), found.near_misses_asked)} near misses served, "
        f"{_count(found.paraphrases, found.paraphrases_asked)} paraphrases ({found.paraphrases_wrong} wrongly); "
        f"in the stream {found.stream_hits:.3f} hits, {found.stream_wrong:.4f} wrong"
    )


def main(arguments: Sequence[str]) -> int:
    """Reports. 0, or 1 when a file is of no use."""
    parser = argparse.ArgumentParser(prog="python -m lab.cache_warmed")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--broad", action="store_true", help="FILE has broad answers")
    parser.add_argument("--half", default="", metavar="NAME", help="of the file this half alone")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--limit", type=float, default=0.005)
    parser.add_argument("--warm", type=Path, metavar="STREAM", help="more questions for the class to learn from")
    parser.add_argument("--show", action="store_true", help="the near misses that are served")
    parser.add_argument("--model", type=Path, default=PACKAGED_MODEL, metavar="ARTIFACT")
    options = parser.parse_args(arguments)
    try:
        model, warm = parse_pair_model(options.model.read_bytes()), _stream(options.warm)
        for half, questions in _questions(options.file, broad=options.broad):
            if options.half not in ("", half):
                continue
            for seed in options.seeds:
                found = warmed(questions, model, limit=options.limit, seed=seed, warm=warm)
                sys.stdout.write(f"{options.file.name} {half}, seed {seed}: {_line(found)}\n")
                if options.show:
                    sys.stdout.writelines(f"    {kind}: {text}\n" for kind, text in found.near_misses)
    except (CacheDataError, PairModelError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

"""Writes the streams on which the cache's risk control was developed, so that its settings owe nothing to Banking77.

    python -m lab.cache_worlds OUT_DIR [--questions questions_train.jsonl.gz] [--mmlu mmlu.jsonl.gz]

Each file is a stream (`text`, `answer`) for `python -m lab.cache_stream`, different in kind from the others:

    shop       templates of requests to a software shop (an action, an object), in many words, with typing errors
    shopnoise  the same with 2 % wrong answers: what noisy evidence does
    quora      clusters of questions that Quora's readers called the same, three and more in each
    hot        the larger of these clusters, every question twice more with noise: few answers, asked often
    mmlu       exam questions with their subject as the answer: near in topic says little here

Deterministic; texts are unique within a file. `quora` and `hot` need --questions, `mmlu` needs --mmlu.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from random import Random
from typing import Final

from lab.cache_data import CacheDataError, Pairs, read_cache_file, read_rows
from lab.joined import Joined

__all__ = ["clusters", "main", "noisy", "shop"]

SEED: Final = 5
SHOP_ROWS: Final = 9_000
SHOP_DRAWS: Final = 16_000
SHOP_COMBINATIONS: Final = 0.75
"""Of all actions and objects, so many are asked for."""
NOISY_SHOP_ROWS: Final = 8_000
WRONG_SHARE: Final = 0.02
CLUSTER_MIN: Final = 3
HOT_CLUSTER_MIN: Final = 7
HOT_COPIES: Final = 2
MMLU_ROWS: Final = 7_000
MMLU_CHARS: Final = range(31, 220)

BEFORE: Final = ("please", "hi", "hello,", "help:", "can you tell me", "quick question -", "i was wondering", "urgent:")
AFTER: Final = ("please", "thanks", "asap", "?", "for me", "today?", "again")
ACTIONS: Final = {
    "cancel": ("cancel", "stop", "terminate", "end", "get rid of", "call off"),
    "change": ("change", "modify", "edit", "update", "switch", "adjust"),
    "find": ("find", "locate", "see", "look up", "view", "check"),
    "pay": ("pay for", "settle", "make a payment for", "get billed for"),
    "dispute": ("dispute", "complain about", "challenge", "contest", "question"),
    "share": ("share", "give access to", "let a colleague use", "transfer"),
    "fix": ("fix", "repair", "troubleshoot", "get working again", "sort out problems with"),
    "renew": ("renew", "extend", "prolong", "keep going with"),
    "fees": ("know the cost of", "see the price of", "know what I am charged for", "learn the fee for"),
    "export": ("export", "download", "get a copy of", "save"),
}
OBJECTS: Final = {
    "subscription": ("subscription", "plan", "membership"),
    "invoice": ("invoice", "bill", "receipt"),
    "account": ("account", "profile", "login"),
    "licence": ("licence", "license key", "seat"),
    "report": ("report", "dashboard", "statistics"),
    "delivery": ("delivery", "parcel", "shipment", "package"),
    "booking": ("booking", "reservation", "appointment"),
    "backup": ("backup", "archive", "stored files"),
}
TEMPLATES: Final = (
    "How do I {action} my {object}?",
    "I want to {action} my {object}",
    "Where can I {action} the {object}",
    "{action} {object}",
    "what do i need to do to {action} a {object}",
    "My {object}: I need to {action} it",
    "Is it possible to {action} the {object}?",
    "I have been trying to {action} my {object} but nothing happens",
    "Why can I not {action} my {object}",
    "steps to {action} {object}",
    "who do I ask to {action} our {object}",
    "Tell me how one can {action} an {object}",
    "I would like some help, I must {action} my {object} this week",
    "the {object} I bought last month, can you {action} it",
)

Rows = list[tuple[str, str]]


def noisy(text: str, random: Random) -> str:
    """The text as somebody in a hurry writes it: a word left out, letters exchanged, a greeting, no capitals."""
    words = text.split()
    if random.random() < 0.35 and len(words) > 4:
        words.pop(random.randrange(len(words)))
    if random.random() < 0.3:
        place = random.randrange(len(words))
        words[place] = _mistyped(words[place], random)
    if random.random() < 0.4:
        words.insert(0, random.choice(BEFORE))
    if random.random() < 0.3:
        words.append(random.choice(AFTER))
    result = " ".join(words)
    return result.lower() if random.random() < 0.4 else result


def shop(random: Random) -> Rows:
    """Questions and the pair of action and object that each is about; some pairs are asked far oftener than others."""
    pairs = [(a, o) for a in ACTIONS for o in OBJECTS if random.random() < SHOP_COMBINATIONS]
    random.shuffle(pairs)
    weights = [1.0 / (rank + 3) ** 0.7 for rank in range(len(pairs))]
    rows = []
    for action, thing in random.choices(pairs, weights, k=SHOP_DRAWS):
        words = {"action": random.choice(ACTIONS[action]), "object": random.choice(OBJECTS[thing])}
        rows.append((noisy(random.choice(TEMPLATES).format(**words), random), f"{action}/{thing}"))
    return _unique(rows)[:SHOP_ROWS]


def clusters(pairs: Pairs) -> list[list[str]]:
    """Questions that are linked by pairs called the same, each cluster and all of them in a fixed order."""
    linked = Joined(text for pair in zip(pairs.a, pairs.b, strict=True) for text in pair)
    for a, b, same in zip(pairs.a, pairs.b, pairs.same, strict=True):
        if same:
            linked.join(a, b)
    found: dict[str, list[str]] = defaultdict(list)
    for text in linked.items():
        found[linked.root(text)].append(text)
    return sorted(found.values())


def _mistyped(word: str, random: Random) -> str:
    if len(word) < 4:
        return word
    place = random.randrange(1, len(word) - 1)
    if random.random() < 0.5:
        return word[:place] + word[place + 1 :]
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


def _unique(rows: Iterable[tuple[str, str]]) -> Rows:
    kept: dict[str, str] = {}
    for text, answer in rows:
        kept.setdefault(text, answer)
    return list(kept.items())


def _quora(found: Sequence[Sequence[str]], least: int) -> Rows:
    return [(text, str(number)) for number, each in enumerate(found) if len(each) >= least for text in each]


def _mmlu(path: Path, random: Random) -> Rows:
    rows = [(str(row["prompt"]).split("\nA. ")[0].strip(), str(row["subject"])) for row in read_rows(path)]
    random.shuffle(rows)
    return [(text, subject) for text, subject in rows if len(text) in MMLU_CHARS][:MMLU_ROWS]


def _streams(questions: Path | None, mmlu: Path | None) -> dict[str, Rows]:
    random = Random(SEED)
    streams = {"shop": shop(random)}
    names = sorted({answer for _, answer in streams["shop"]})
    streams["shopnoise"] = [
        (text, random.choice(names) if random.random() < WRONG_SHARE else answer)
        for text, answer in streams["shop"][:NOISY_SHOP_ROWS]
    ]
    if questions is not None:
        pairs = read_cache_file(questions)
        if not isinstance(pairs, Pairs):
            raise CacheDataError(f"{questions} has no pairs")
        found = clusters(pairs)
        streams["quora"] = _quora(found, CLUSTER_MIN)
        hot = _quora(found, HOT_CLUSTER_MIN)
        streams["hot"] = hot + [(noisy(text, random), answer) for text, answer in hot for _ in range(HOT_COPIES)]
    if mmlu is not None:
        streams["mmlu"] = _mmlu(mmlu, random)
    return {name: _unique(rows) for name, rows in streams.items()}


def main(arguments: Sequence[str]) -> int:
    """Writes the files; says how many questions and answers each has."""
    parser = argparse.ArgumentParser(prog="python -m lab.cache_worlds")
    parser.add_argument("out", type=Path, metavar="OUT_DIR")
    parser.add_argument("--questions", type=Path, help="labelled pairs of questions")
    parser.add_argument("--mmlu", type=Path, help="rows of prompt and subject")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        streams = _streams(options.questions, options.mmlu)
    except CacheDataError as error:
        print(error, file=sys.stderr)
        return 1
    for name, rows in streams.items():
        lines = [json.dumps({"text": text, "answer": answer}) + "\n" for text, answer in rows]
        (options.out / f"{name}.jsonl").write_text("".join(lines))
        print(f"{name}: {len(rows)} questions, {len({answer for _, answer in rows})} answers")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

"""Trains a head that says which tier suffices, examines it on held-out prompts, and puts it to use unless it is worse.

    python -m lab.train_router FILE... [--tiers A=MODEL,B=MODEL] [--heads-dir DIR] [--version NAME] [--seed N]
        [--test-share 0.25] [--held-out FILE...] [--force] [--no-activate] [--plot FILE] [--json]

Near duplicates stay on one side of the split, by content. The head in use is compared on held-out prompts that it has
not seen. Refused is a head that is worse than the one in use, not shown to order prompts better than chance, or worse
at it than their length. Exit codes: 0 done, 1 failed, 3 refused (nothing is written).
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lab.curves import can_draw, curves_png
from lab.fitted_prompts import FittedPrompts
from lab.near_duplicates import group_near_duplicates
from lab.router_card import comparisons_values, exam_values, files_values, head_card
from lab.router_data import RouterRows
from lab.router_exam import ROWS_MIN as EXAMINED_MIN
from lab.router_exam import Comparison, Exam, ExamError, compare, examine, held_out, lacking
from lab.router_fit import ROWS_MIN, fit_router, gains_of
from lab.router_inputs import InputError, Inputs, add_options, head_to_use, load_head, open_inputs, remark
from lab.router_prepare import Prepared, judges_of, prepare, sampled, unseen
from lab.router_scores import LENGTH, Scores, by_trained
from lab.router_text import comparison_text, exam_text, files_text
from services.classifier.head_store import BUILTIN, HeadStoreError
from services.classifier.sufficiency import SufficiencyModel, parse_sufficiency, serialise_sufficiency

__all__ = ["WORSE", "main"]

WORSE = 3
"""Exit code: the new head is worse than the one in use, or of no use."""
# A comparison on fewer prompts is said to prove little. Prompts that the old head has seen would favour it.
COMPARED_MIN = 100

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class _Split:
    """Which rows are fitted, which are examined, and the card's words on it."""

    fit: Mask
    exam: Mask
    words: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Trained:
    """A head as it will be loaded, and the bytes that it is loaded from."""

    model: SufficiencyModel
    artifact: bytes
    seconds: float


@dataclass(frozen=True, slots=True)
class _Verdict:
    """How it did, beside the head that was in use."""

    exam: Exam
    in_use: str
    comparisons: tuple[Comparison, ...]
    lacking: str

    @property
    def refusal(self) -> str:
        """Why it should not be used; empty when it may."""
        worse = "; ".join(each.worse for each in self.comparisons if each.worse)
        return "; ".join([f"worse than {self.in_use} ({worse})"] * bool(worse) + [self.lacking] * bool(self.lacking))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="spillway train")
    add_options(parser)
    parser.add_argument("--version", default="", help="of the new head; default: the time")
    parser.add_argument("--test-share", type=float, default=0.25, help="of the prompts, held out for the figures")
    parser.add_argument("--held-out", nargs="+", type=Path, default=[], help="files to examine by, instead of a share")
    parser.add_argument("--force", action="store_true", help="keep and use it even if it is refused")
    parser.add_argument("--activate", action=argparse.BooleanOptionalAction, default=True, help="put it to use")
    parser.add_argument("--plot", type=Path, help="the curves as PNG; default: VERSION.png beside the head")
    return parser


def _check(options: argparse.Namespace) -> None:
    if not 0.05 <= options.test_share <= 0.95:
        raise InputError("--test-share: from 0.05 to 0.95")
    if options.plot and not can_draw():
        raise InputError("--plot needs matplotlib; pip install 'spillway[lab]'")


def _split(inputs: Inputs, rows: RouterRows, prepared: Prepared, options: argparse.Namespace) -> _Split:
    group = group_near_duplicates(prepared.data.texts, prepared.data.vectors)
    if options.held_out:
        own = set(inputs.read(options.held_out).prompts)
        exam = np.asarray([prompt in own for prompt in rows.prompts])
        fit, rule = ~np.isin(group, group[exam]), "files of their own; what is near them was not fitted"
    else:
        exam = held_out(group, prepared.prints, options.test_share, seed=options.seed)
        fit, rule = ~exam, f"{options.test_share:g} of the groups of near duplicates, chosen by content and seed"
    counts = {"groups": len(np.unique(group)), "fitted": int(fit.sum()), "held_out": int(exam.sum())}
    return _Split(fit, exam, {"rule": rule, "seed": options.seed, **counts})


def _told(prepared: Prepared, split: _Split) -> Prepared:
    """Without the tiers of which too little is known to fit and to examine. Raises InputError when none is left."""
    fitted = (~np.isnan(gains_of(prepared.data.outcomes[split.fit]))).sum(axis=0)
    examined = (~np.isnan(prepared.data.outcomes[split.exam, :-1])).sum(axis=0)
    kept = np.flatnonzero((fitted >= ROWS_MIN) & (examined >= EXAMINED_MIN)).tolist()
    for index in sorted(set(range(len(fitted))) - set(kept)):
        remark(
            f"tier {prepared.data.tiers[index]}: {fitted[index]} outcomes to fit and {examined[index]} held out, "
            f"{ROWS_MIN} and {EXAMINED_MIN} are needed; the head leaves it out, and its P is the next cheaper tier's"
        )
    if not kept:
        raise InputError("no tier but the dearest has enough outcomes")
    return prepared.tiers([*kept, len(prepared.data.tiers) - 1])


def _fit(prepared: Prepared, *, version: str, seed: int) -> _Trained:
    started_s = time.monotonic()
    try:
        fitted = fit_router(prepared.data, version=version, embedding_model=prepared.model_id, seed=seed)
    except ValueError as error:
        raise InputError(f"nothing can be learned of {len(prepared.data)} prompts: {error}") from error
    artifact = serialise_sufficiency(fitted)
    # Read back, so that the figures are those of the head as it will be loaded.
    return _Trained(parse_sufficiency(artifact), artifact, time.monotonic() - started_s)


def _judge(inputs: Inputs, trained: _Trained, test: Prepared, seed: int) -> _Verdict:
    in_use = _in_use(inputs, test.model_id)
    others = judges_of(inputs, test, head=in_use, seed=seed)
    new = by_trained(trained.model.version, trained.model, test.data, inputs.ladder)
    exam = examine((new, *others), test.data, test.kinds, costs=test.costs, seed=seed)
    length = next(judge for judge in others if judge.name == LENGTH)
    useless = lacking(exam.judges[0], compare(new, length, test.data, seed=seed))
    return _Verdict(exam, in_use, _compared(inputs, new, others[0], in_use, test, seed), useless)


def _in_use(inputs: Inputs, model_id: str) -> str:
    """The head to beat; the built-in rule when the one in use cannot be read or is of another embedding model."""
    try:
        version = head_to_use(inputs.store)
        if version != BUILTIN:
            load_head(inputs.store, version, model_id)
    except InputError as error:
        remark(f"the head in use cannot be compared: {error}")
        return BUILTIN
    return version


def _compared(
    inputs: Inputs, new: Scores, old: Scores, in_use: str, test: Prepared, seed: int
) -> tuple[Comparison, ...]:
    """The new head against the one in use, on prompts that neither has seen."""
    clean = unseen(inputs.store, in_use, test)
    if not clean.all():
        remark(f"{in_use} was fitted to {int((~clean).sum())} of the {len(clean)} held-out prompts, or to near copies")
    if int(clean.sum()) < COMPARED_MIN:
        remark(f"the {int(clean.sum())} prompts that neither head has seen prove little of which one is better")
    return compare(new.rows(clean), old.rows(clean), test.data.rows(clean), seed=seed)


def _keep(
    options: argparse.Namespace, inputs: Inputs, rows: RouterRows, prepared: Prepared, split: _Split,
    trained: _Trained, verdict: _Verdict, now: dt.datetime,
) -> None:  # fmt: skip
    """Writes the head and its card, puts it to use, draws."""
    version = trained.model.version
    card = head_card(
        trained.model,
        trained.artifact,
        date=now.isoformat(timespec="seconds"),
        data={
            "files": files_values(rows.files),
            "prompts": len(rows),
            "embedding_s": round(prepared.embedding_s, 1),
            "fit_s": round(trained.seconds, 1),
        },
        split=split.words,
        exam=verdict.exam,
        in_use=verdict.in_use,
        comparisons=verdict.comparisons,
        seed=options.seed,
        forced=bool(verdict.refusal),
    )
    fitted = prepared.rows(split.fit).data
    near = FittedPrompts.of(fitted.texts, fitted.vectors).serialise()
    inputs.store.add(version, trained.artifact, card, prepared.prints[split.fit], near)
    if options.activate:
        inputs.store.use(version)
    if can_draw():
        path = options.plot or inputs.store.directory / f"{version}.png"
        path.write_bytes(_picture(verdict.exam, prepared.data.tiers, version))
    else:
        remark("no PNG was drawn: matplotlib is not installed (pip install 'spillway[lab]')")


def _picture(exam: Exam, tiers: Sequence[str], version: str) -> bytes:
    tier = next(iter(exam.judges[0].reports))
    found = {judge.name: judge.reports[tier] for judge in exam.judges}
    curves = {name: report.curve for name, report in found.items()}
    bars = {name: report.reliability for name, report in found.items() if report.reliability}
    return curves_png(curves, bars, f"{version}: {tier} or {tiers[-1]}, {exam.rows} held-out prompts")


def _train(options: argparse.Namespace) -> int:
    _check(options)
    inputs = open_inputs(options)
    now = dt.datetime.now(tz=dt.UTC)
    version = options.version or now.strftime("%Y-%m-%d-%H%M%S")
    inputs.store.check_free(version)
    rows = inputs.read([*options.files, *options.held_out])
    if not options.json:
        print(files_text(rows), flush=True)
    rows = sampled(rows, seed=options.seed)
    prepared = prepare(inputs, rows)
    remark(f"embedded {len(rows)} prompts in {prepared.embedding_s:.1f} s")
    split = _split(inputs, rows, prepared, options)
    prepared = _told(prepared, split)
    trained = _fit(prepared.rows(split.fit), version=version, seed=options.seed)
    remark(f"fitted to {split.words['fitted']} prompts in {trained.seconds:.1f} s")
    verdict = _judge(inputs, trained, prepared.rows(split.exam), options.seed)
    refused = bool(verdict.refusal) and not options.force
    if not refused:
        _keep(options, inputs, rows, prepared, split, trained, verdict, now)
    if options.json:
        print(json.dumps(_values(version, rows, split, verdict, refused=refused), indent=2))
    else:
        print("{fitted} fitted, {held_out} held out, in {groups} groups of near duplicates\n".format(**split.words))
        print(f"{exam_text(verdict.exam, prepared.data.tiers, version)}\n")
        print(f"{comparison_text(verdict.comparisons, verdict.in_use)}\n")
    if refused:
        remark(f"refused: {version} is {verdict.refusal}; --force keeps it all the same")
        return WORSE
    used = "in use from now on" if options.activate else f"not in use yet: spillway heads use {version}"
    remark(f"{inputs.store.directory / version}.npz and its card are written; {used}")
    if options.activate and not inputs.followed:
        remark("no service of this configuration follows that directory: name it in classifier.heads_dir")
    return 0


def _values(version: str, rows: RouterRows, split: _Split, verdict: _Verdict, *, refused: bool) -> dict[str, Any]:
    return {
        "version": version,
        "refused": refused,
        "files": files_values(rows.files),
        "refused_lines": list(rows.problems),
        "split": split.words,
        "figures": exam_values(verdict.exam),
        "in_use_then": verdict.in_use,
        "against_it": comparisons_values(verdict.comparisons),
    }


def main(arguments: Sequence[str]) -> int:
    """The command."""
    options = _parser().parse_args(arguments)
    try:
        return _train(options)
    except (InputError, ExamError, HeadStoreError) as error:
        remark(str(error))
    except OSError as error:
        remark(f"{error.filename}: {error.strerror}")
    return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

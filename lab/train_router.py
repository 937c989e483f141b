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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lab.curves import can_draw, exam_png
from lab.fitted_prompts import FittedPrompts
from lab.router_card import comparisons_values, exam_values, files_values, head_card
from lab.router_data import RouterRows
from lab.router_exam import Comparison, Exam, ExamError, compare, examine, lacking
from lab.router_fit import fit_router
from lab.router_inputs import InputError, Inputs, add_options, head_to_use, load_head, open_inputs, remark
from lab.router_prepare import Prepared, judges_of, prepare, sampled, unseen
from lab.router_scores import LENGTH, Scores, by_trained
from lab.router_split import Split, split_of, without_thin_tiers
from lab.router_text import comparison_text, cut_text, exam_text, files_text
from services.classifier.head_store import BUILTIN, HeadStoreError
from services.classifier.sufficiency import SufficiencyModel, parse_sufficiency, serialise_sufficiency

__all__ = ["WORSE", "main"]

WORSE = 3
"""Exit code: the new head is worse than the one in use, or of no use."""
# A comparison on fewer prompts is said to prove little. Prompts that the old head has seen would favour it.
COMPARED_MIN = 100


@dataclass(frozen=True, slots=True)
class _Trained:
    """A head as it will be loaded, and the bytes that it is loaded from."""

    model: SufficiencyModel
    artifact: bytes
    seconds: float


@dataclass(frozen=True, slots=True)
class _Verdict:
    """How it did, beside the head that was in use; `current` is what the store named as that, readable or not."""

    exam: Exam
    in_use: str
    current: str
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


def _fit(prepared: Prepared, *, version: str, seed: int) -> _Trained:
    started_s = time.monotonic()
    try:
        fitted = fit_router(prepared.data, version=version, embedding_model=prepared.model_id, seed=seed)
    except ValueError as error:
        raise InputError(f"nothing can be learned of {len(prepared.data)} prompts: {error}") from error
    artifact = serialise_sufficiency(fitted)
    # Read back, so that the figures are those of the head as it will be loaded.
    return _Trained(parse_sufficiency(artifact), artifact, time.monotonic() - started_s)


def _renamed(trained: _Trained, version: str) -> _Trained:
    if version == trained.model.version:
        return trained
    artifact = serialise_sufficiency(replace(trained.model, version=version))
    return _Trained(parse_sufficiency(artifact), artifact, trained.seconds)


def _judge(inputs: Inputs, trained: _Trained, test: Prepared, seed: int) -> _Verdict:
    current = inputs.store.stamp().version or BUILTIN
    in_use = _in_use(inputs, test.model_id)
    others = judges_of(inputs, test, head=in_use, seed=seed)
    new = by_trained(trained.model.version, trained.model, test.data, inputs.ladder)
    exam = examine((new, *others), test.data, test.kinds, costs=test.costs, seed=seed)
    length = next(judge for judge in others if judge.name == LENGTH)
    useless = lacking(exam.judges[0], compare(new, length, test.data, seed=seed))
    return _Verdict(exam, in_use, current, _compared(inputs, new, others[0], in_use, test, seed), useless)


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
    options: argparse.Namespace, inputs: Inputs, rows: RouterRows, prepared: Prepared, split: Split,
    trained: _Trained, verdict: _Verdict, now: dt.datetime,
) -> None:  # fmt: skip
    """Writes the head and its card, puts it to use."""
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
        inputs.store.use(version, instead_of=verdict.current)


def _draw(options: argparse.Namespace, inputs: Inputs, verdict: _Verdict, tiers: Sequence[str], version: str) -> None:
    """A picture that cannot be drawn is a remark: the head and the report are there by now."""
    if not can_draw():
        remark("no PNG was drawn: matplotlib is not installed (pip install 'spillway[lab]')")
        return
    path = options.plot or inputs.store.directory / f"{version}.png"
    try:
        path.write_bytes(exam_png(verdict.exam, tiers[-1], version))
    except OSError as error:
        remark(f"no PNG was drawn: {error.filename}: {error.strerror}")


def _now() -> dt.datetime:
    return dt.datetime.now(tz=dt.UTC)


def _train(options: argparse.Namespace) -> int:
    _check(options)
    inputs = open_inputs(options)
    now = _now()
    version = options.version or now.strftime("%Y-%m-%d-%H%M%S")
    if options.version:
        inputs.store.check_free(version)
    rows = inputs.read([*options.files, *options.held_out])
    if not options.json:
        print(files_text(rows), flush=True)
    if warning := cut_text(rows):
        remark(warning)
    rows = sampled(rows, seed=options.seed)
    prepared = prepare(inputs, rows)
    remark(f"embedded {len(rows)} prompts in {prepared.embedding_s:.1f} s")
    split = split_of(inputs, rows, prepared, options)
    prepared = without_thin_tiers(prepared, split)
    trained = _fit(prepared.rows(split.fit), version=version, seed=options.seed)
    remark(f"fitted to {split.words['fitted']} prompts in {trained.seconds:.1f} s")
    # What it is compared with must still be in use when it takes its place.
    with inputs.store.deciding():
        if not options.version:
            trained = _renamed(trained, inputs.store.free_name(version))
        version = trained.model.version
        verdict = _judge(inputs, trained, prepared.rows(split.exam), options.seed)
        refused = bool(verdict.refusal) and not options.force
        _show(options, rows, prepared, split, verdict, version)
        if refused:
            remark(f"refused: {version} is {verdict.refusal}; --force keeps it all the same")
            return WORSE
        _keep(options, inputs, rows, prepared, split, trained, verdict, now)
    used = "in use from now on" if options.activate else f"not in use yet: spillway heads use {version}"
    remark(f"{inputs.store.directory / version}.npz and its card are written; {used}")
    if options.activate and not inputs.followed:
        remark("no service of this configuration follows that directory: name it in classifier.heads_dir")
    if options.activate and inputs.settings.policy.sufficiency_min is None:
        remark(
            "policy.sufficiency_min is not set: which tier a prompt starts at does not change; "
            "spillway calibrate classifier finds a value"
        )
    _draw(options, inputs, verdict, prepared.data.tiers, version)
    return 0


def _show(
    options: argparse.Namespace, rows: RouterRows, prepared: Prepared, split: Split, verdict: _Verdict, version: str
) -> None:
    """The report, before anything is written: whatever fails after it, it is there."""
    if options.json:
        refused = bool(verdict.refusal) and not options.force
        print(json.dumps(_values(version, rows, split, verdict, refused=refused), indent=2), flush=True)
        return
    print("{fitted} fitted, {held_out} held out, in {groups} groups of near duplicates\n".format(**split.words))
    print(f"{exam_text(verdict.exam, prepared.data.tiers, version)}\n")
    print(f"{comparison_text(verdict.comparisons, verdict.in_use)}\n", flush=True)


def _values(version: str, rows: RouterRows, split: Split, verdict: _Verdict, *, refused: bool) -> dict[str, Any]:
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

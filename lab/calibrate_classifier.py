"""Finds policy.sufficiency_min for a share of traffic, or the share for a probability, from a sample of prompts.

    python -m lab.calibrate_classifier FILE... (--target-strong-share 0.2 | --probability 0.9) [--head VERSION|builtin]
        [--tiers A,B] [--heads-dir DIR] [--seed N] [--json]

Only prompts are needed, what became of them is not. A prompt counts as often as it stands in the files, as it does in
traffic, and so do prompts that the head was fitted to. The share is of requests that the ladder alone decides: rules,
pins, floors and escalations come on top.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lab.router_card import files_values
from lab.router_data import fingerprint
from lab.router_inputs import (
    InputError,
    Inputs,
    Vectors,
    add_options,
    builtin_head,
    embed,
    head_to_use,
    load_head,
    open_inputs,
    remark,
)
from lab.router_outcomes import RouterData
from lab.router_scores import by_builtin, by_heuristics, by_trained, read_heuristics
from lab.router_text import files_text, with_interval
from lab.share_of_traffic import Threshold, share_at, threshold_for
from services.classifier.head_store import BUILTIN, HeadStoreError

__all__ = ["main"]

Floats = npt.NDArray[np.float64]

PROMPTS_MIN = 30


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="spillway calibrate classifier")
    add_options(parser)
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("--target-strong-share", type=float, help="share of requests that start at the dearest tier")
    wanted.add_argument("--probability", type=float, help="the P(suffices) that is asked for")
    parser.add_argument("--head", default="", help="a version, or builtin; default: the one in use")
    return parser


def _probabilities(inputs: Inputs, head: str, texts: Sequence[str], vectors: Vectors) -> Floats:
    """P(suffices) of every tier of the ladder, as the service says it, [n, tiers]."""
    tiers = inputs.ladder.names
    data = RouterData.of(texts, vectors.values, tiers, np.full((len(texts), len(tiers)), np.nan))
    if head != BUILTIN:
        found = by_trained(head, load_head(inputs.store, head, vectors.model_id), data, inputs.ladder)
    else:
        words, builtin = read_heuristics(texts), builtin_head(vectors.model_id)
        found = (
            by_heuristics(words, inputs.ladder, tiers)
            if builtin is None
            else by_builtin(builtin, words, data, inputs.ladder)
        )
    return np.concatenate([np.asarray(found.probabilities), np.ones((len(texts), 1))], axis=1)


def _calibrate(options: argparse.Namespace) -> None:
    given = options.probability if options.target_strong_share is None else options.target_strong_share
    if not 0.0 <= given <= 1.0:
        raise InputError("shares and probabilities are from 0 to 1")
    inputs = open_inputs(options, outcomes=False)
    head = head_to_use(inputs.store, options.head)
    if len(inputs.ladder.names) < 2:
        raise InputError("the ladder has one tier: there is nothing to decide")
    rows = inputs.read(options.files)
    if not options.json:
        print(files_text(rows), flush=True)
    seen = set() if head == BUILTIN else set(inputs.store.seen(head).tolist())
    if len(rows) < PROMPTS_MIN:
        raise InputError(f"{len(rows)} different prompts say nothing of traffic; {PROMPTS_MIN} are needed")
    fitted = sum(fingerprint(prompt) in seen for prompt in rows.prompts)
    if fitted:
        remark(f"head {head} was fitted to {fitted} of these prompts: of traffic without them the share may differ")
    vectors = embed(inputs, rows.prompts)
    # Each request is one draw from traffic, which holds some prompts often.
    said = np.repeat(_probabilities(inputs, head, rows.prompts, vectors), rows.counts, axis=0)
    if options.target_strong_share is None:
        found = share_at(said, given, seed=options.seed)
    else:
        found = threshold_for(said, given, seed=options.seed)
        if abs(found.share.value - given) > 0.5 / np.sqrt(len(said)):
            remark(f"many requests have the same P: the nearest share that can be had is {found.share.value:.3f}")
    if options.json:
        counts = {"prompts": len(rows), "requests": len(said), "prompts_fitted": fitted}
        print(json.dumps(_values(found, inputs.ladder.names, head) | counts | {"files": files_values(rows.files)}))
    else:
        _show(found, inputs.ladder.names, f"head {head}, {len(said)} requests, {len(rows)} different prompts")


def _values(found: Threshold, tiers: Sequence[str], head: str) -> dict[str, object]:
    share = {"value": found.share.value, "low": found.share.low, "high": found.share.high}
    mix = dict(zip(tiers, found.mix, strict=True))
    return {"head": head, "sufficiency_min": found.threshold, "strong_share": share, "starts": mix}


def _show(found: Threshold, tiers: Sequence[str], sample: str) -> None:
    mix = ", ".join(f"{tier} {share:.1%}" for tier, share in zip(tiers, found.mix, strict=True))
    print(sample)
    print(f"share that starts at {tiers[-1]}: {with_interval(found.share)}, 95 %, if these requests are like the rest")
    print(f"starts: {mix}")
    print(f"\npolicy:\n  sufficiency_min: {found.threshold!r}")


def main(arguments: Sequence[str]) -> int:
    """The command."""
    options = _parser().parse_args(arguments)
    try:
        _calibrate(options)
    except (InputError, HeadStoreError) as error:
        remark(str(error))
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

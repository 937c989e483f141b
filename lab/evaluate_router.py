"""The report of a head on prompts with outcomes; nothing is fitted.

    python -m lab.evaluate_router FILE... [--head VERSION|builtin] [--tiers A=MODEL,B=MODEL] [--heads-dir DIR]
        [--seed N] [--plot FILE] [--json]

Prompts that the head was fitted to, and near copies of them, are left out.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from lab.curves import can_draw, exam_png
from lab.router_card import exam_values, files_values
from lab.router_exam import ExamError, examine
from lab.router_inputs import InputError, add_options, head_to_use, open_inputs, remark
from lab.router_prepare import judges_of, prepare, sampled, unseen
from lab.router_text import cut_text, exam_text, files_text
from services.classifier.head_store import HeadStoreError

__all__ = ["main"]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="spillway evaluate")
    add_options(parser)
    parser.add_argument("--head", default="", help="a version, or builtin; default: the one in use")
    parser.add_argument("--plot", type=Path, help="draw the curves here, as PNG")
    return parser


def _evaluate(options: argparse.Namespace) -> None:
    if options.plot and not can_draw():
        raise InputError("--plot needs matplotlib; pip install 'spillway[lab]'")
    inputs = open_inputs(options)
    head = head_to_use(inputs.store, options.head)
    rows = inputs.read(options.files)
    if not options.json:
        print(files_text(rows), flush=True)
    if warning := cut_text(rows):
        remark(warning)
    rows = sampled(rows, seed=options.seed)
    prepared = prepare(inputs, rows)
    fresh = unseen(inputs.store, head, prepared)
    left_out = int((~fresh).sum())
    if not fresh.any():
        raise InputError(
            f"head {head} was fitted to every one of these prompts or a near copy: no figure would be honest"
        )
    test = prepared.rows(fresh)
    judges = judges_of(inputs, test, head=head, seed=options.seed)
    exam = examine(judges, test.data, test.kinds, costs=test.costs, seed=options.seed)
    tiers = test.data.tiers
    if options.json:
        found = {"head": head, "left_out_as_fitted": left_out, "files": files_values(rows.files)}
        print(json.dumps(found | {"refused_lines": list(rows.problems), "figures": exam_values(exam)}, indent=2))
    else:
        print(f"head {head}; {left_out} prompts are left out, as it was fitted to them or to near copies\n")
        print(exam_text(exam, tiers, head))
    if options.plot:
        options.plot.write_bytes(exam_png(exam, tiers[-1], head))


def main(arguments: Sequence[str]) -> int:
    """The command."""
    options = _parser().parse_args(arguments)
    try:
        _evaluate(options)
    except (InputError, ExamError, HeadStoreError) as error:
        remark(str(error))
        return 1
    except OSError as error:
        remark(f"{error.filename}: {error.strerror}")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

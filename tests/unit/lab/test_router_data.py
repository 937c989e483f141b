"""Files of prompts and outcomes: what counts, what does not, and why."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lab import router_prepare
from lab.router_data import PROBLEMS_SHOWN_MAX, RouterDataError, RouterRows, fingerprint, read_router_files
from lab.router_line import Wanted
from lab.router_text import cut_text, files_text
from services.orchestrator.record import DecisionRecord, json_line, prompt_sha256
from spillway.routing import (
    Attempt,
    AttemptOutcome,
    AttemptPurpose,
    CacheKind,
    CacheOutcome,
    CostSummary,
    GateVerdict,
    RoutingDecision,
    Verdict,
)

TIERS = Wanted(("simple", "medium", "complex"))
NAN = float("nan")
_COSTLY = (
    b'{"prompt_sha256": "0", "prompt_head": "p", "attempts": [{"tier": "simple", "outcome": "OUTCOME_ACCEPTED", '
    b'"cost_nanousd": %s, "verdicts": [{"gate": "rules", "verdict": "VERDICT_PASS"}]}]}'
)


def read(path: Path, lines: Iterable[bytes | dict[str, Any]], wanted: Wanted = TIERS) -> RouterRows:
    data = b"\n".join(line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return read_router_files([path], wanted)


def attempt(tier: str, outcome: AttemptOutcome, *verdicts: tuple[str, Verdict], cost: int = 0) -> Attempt:
    return Attempt(
        tier=tier,
        target=f"{tier}-1",
        model="m",
        provider="p",
        outcome=outcome,
        verdicts=tuple(GateVerdict(gate, verdict, "") for gate, verdict in verdicts),
        cost_nanousd=cost,
        purpose=AttemptPurpose.ANSWER,
    )


def logged(prompt: str, *attempts: Attempt, kept: int = 200) -> bytes:
    """A line as the orchestrator writes it."""
    record = DecisionRecord(
        request_id="r",
        trace_id="",
        received_at_unix_s=1.0,
        tenant="",
        end_user_hash="",
        endpoint="",
        tags=(),
        prompt_sha256=prompt_sha256(prompt),
        prompt_head=prompt[:kept],
        routing=RoutingDecision(policy_step="complexity", reason=""),
        cache=CacheOutcome(CacheKind.MISS),
        attempts=attempts,
        cost=CostSummary(),
        tier="",
        target="",
        accepted=True,
        status_code=0,
        error_reason="",
        latency_s=0.1,
        hops=(),
        config_version="",
        escalations=0,
        fallbacks=0,
    )
    return json_line(record).strip()


def test_outcomes_by_tier_are_read_as_bits_and_grades_and_what_was_not_asked_is_unknown(tmp_path: Path) -> None:
    rows = read(
        tmp_path / "a.jsonl.gz",
        [
            {"prompt": "one", "outcomes": {"simple": True, "complex": 1}, "task_type": "math"},
            {"messages": [{"role": "user", "content": "no"}, {"role": "assistant", "content": "-"},
                          {"role": "user", "content": [{"type": "text", "text": "two"}]}],
             "outcomes": {"simple": 0.25, "medium": None}},
        ],
    )  # fmt: skip
    assert rows.prompts == ("one", "two")
    assert rows.kinds == ("math", "other")
    np.testing.assert_equal(rows.outcomes, [[1.0, NAN, 1.0], [0.25, NAN, NAN]])
    assert rows.files[0].sha256 == hashlib.sha256((tmp_path / "a.jsonl.gz").read_bytes()).hexdigest()


def test_runs_of_models_become_outcomes_of_the_tiers_they_stand_for(tmp_path: Path) -> None:
    wanted = Wanted(("simple", "complex"), {"simple": "weak", "complex": "strong"})
    rows = read(
        tmp_path / "a.jsonl",
        [
            {"prompt": "one", "task": "gsm", "answers": {"weak": {"correct": False}, "strong": {"correct": True}}},
            {"prompt": "two", "subject": "law", "weak": True, "strong": False},
        ],
        wanted,
    )
    np.testing.assert_equal(rows.outcomes, [[0.0, 1.0], [1.0, 0.0]])
    assert rows.kinds == ("gsm", "law")


def test_a_kind_of_work_holds_nothing_that_a_terminal_obeys_or_that_cannot_be_written(tmp_path: Path) -> None:
    lines = [
        b'{"prompt": "p", "outcomes": {"simple": 1}, "task_type": "\\u001b[31mred\\u0007 \\u202e \\ud800"}',
        b'{"prompt": "q", "outcomes": {"simple": 1}, "task_type": "\xc3\xa9crire"}',
    ]
    assert read(tmp_path / "a.jsonl", lines).kinds == ("?[31mred? ? ?", "\u00e9crire")


def test_a_log_tells_what_gates_that_can_tell_said_of_each_tiers_answer(tmp_path: Path) -> None:
    alive = ("hard_failure", Verdict.PASS)
    accepted, rejected = AttemptOutcome.ACCEPTED, AttemptOutcome.REJECTED
    passed = attempt("simple", accepted, ("rules", Verdict.PASS))
    opinion = replace(passed, purpose=AttemptPurpose.SECOND_OPINION)
    rows = read(
        tmp_path / "log.jsonl",
        [
            logged(
                "escalated",
                attempt("simple", rejected, alive, ("rules", Verdict.FAIL), cost=1_000),
                attempt("complex", accepted, alive, ("judge", Verdict.PASS), cost=9_000),
            ),
            logged("the composite decides", attempt("simple", accepted, ("logprob", Verdict.FAIL),
                                                    ("composite", Verdict.PASS))),
            logged("it was returned unproven", attempt("simple", accepted, alive, ("judge", Verdict.FAIL))),
            logged("empty", attempt("simple", rejected, ("hard_failure", Verdict.FAIL))),
            logged("nobody could tell", attempt("simple", accepted, alive, ("judge", Verdict.ABSTAIN))),
            logged("an outage", attempt("simple", AttemptOutcome.TIMEOUT)),
            logged("an opinion is no answer", opinion),
            logged("a tier of long ago", attempt("gone", accepted, ("rules", Verdict.PASS))),
        ],
    )  # fmt: skip
    assert rows.prompts == ("escalated", "the composite decides", "it was returned unproven", "empty")
    np.testing.assert_equal(rows.outcomes[:, 0], [0.0, 1.0, 0.0, 0.0])
    np.testing.assert_equal(rows.outcomes[:, 2], [1.0, NAN, NAN, NAN])
    assert rows.files[0].without_outcome == 4
    assert rows.costs[[0, 2]] == pytest.approx([1e-6 / 4, 9e-6])


def test_records_that_kept_no_prompt_are_counted_and_so_are_cut_ones(tmp_path: Path) -> None:
    good = attempt("simple", AttemptOutcome.ACCEPTED, ("rules", Verdict.PASS))
    rows = read(
        tmp_path / "log.jsonl",
        [logged("not kept", good, kept=0), logged("x" * 300, good), logged("whole", good)],
    )
    facts = rows.files[0]
    assert (facts.lines, facts.used, facts.without_prompt, facts.cut) == (3, 2, 1, 1)
    assert rows.prompts == ("x" * 200, "whole")
    assert "of 50% of the prompts the log kept only the head" in cut_text(rows)
    assert not cut_text(read(tmp_path / "whole.jsonl", [logged("whole", good)]))


def test_the_same_prompt_is_one_row_with_the_mean_of_its_outcomes(tmp_path: Path) -> None:
    lines = [{"prompt": "p", "outcomes": {"simple": value}} for value in (1, 0, 1)]
    rows = read(tmp_path / "a.jsonl", [*lines, {"prompt": "p", "outcomes": {"complex": 1}}])
    np.testing.assert_allclose(rows.outcomes, [[2 / 3, NAN, 1.0]])


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b"{", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"\xff", "no JSON"),
        (b"[1]", "no JSON object"),
        (b'{"outcomes": {"simple": 1}}', "there is no prompt"),
        (b'{"prompt": 5, "outcomes": {"simple": 1}}', "there is no prompt"),
        (b'{"messages": [{"role": "user"}], "outcomes": {"simple": 1}}', "there is no prompt"),
        (b'{"prompt": "p", "outcomes": {"cheap": 1}}', "no tier 'cheap', only simple, medium, complex"),
        (b'{"prompt": "p", "outcomes": {"simple": 2}}', "outcomes.simple"),
        (b'{"prompt": "p", "outcomes": {"simple": NaN}}', "outcomes.simple"),
        (b'{"prompt": "p", "outcomes": {"simple": "yes"}}', "outcomes.simple"),
        (b'{"prompt": "p", "outcomes": {}}', "there are none"),
        (b'{"prompt": "p", "outcomes": []}', "no object"),
        (b'{"prompt": "p", "outcomes": {"simple": 1}, "costs": {"simple": -1}}', "costs.simple"),
        (b'{"prompt": "p", "answers": {}}', "--tiers TIER=MODEL"),
        (b'{"prompt": "p", "outcomes": {"simple": 1}, "costs": {"simple": 1%s}}' % (b"0" * 400), "costs.simple"),
        (b'{"prompt": "p", "outcomes": {"simple": 1}, "costs": {"simple": 1%s}}' % (b"0" * 5_000), "no JSON"),
        (b'{"prompt": "p", "outcomes": {"simple": 1}, "costs": {"simple": 1e400}}', "costs.simple"),
        (b'{"prompt": "\\ud800 p", "outcomes": {"simple": 1}}', "prompt: half a surrogate pair"),
        (b'{"prompt_sha256": "0", "prompt_head": "\\udfff"}', "prompt_head: half a surrogate pair"),
        (_COSTLY % (b"1%s" % (b"0" * 400)), "cost_nanousd"),
        (_COSTLY % (b'"%s"' % (b"9" * 5_000)), "cost_nanousd"),
        (b'{"prompt_sha256": "0", "prompt_head": 1}', "prompt_head"),
        (b'{"prompt_sha256": "0", "prompt_head": "p", "attempts": [1]}', "attempts"),
        (
            b'{"prompt_sha256": "0", "prompt_head": "p", "attempts": [{"tier": "simple", '
            b'"outcome": "OUTCOME_ACCEPTED", "verdicts": [2]}]}',
            "verdicts",
        ),
    ],
)
def test_a_line_that_does_not_fit_is_refused_by_file_line_and_reason(tmp_path: Path, line: bytes, why: str) -> None:
    good = {"prompt": "good", "outcomes": {"simple": 1}}
    rows = read(tmp_path / "a.jsonl", [good, b"", line])
    assert rows.prompts == ("good",)
    assert rows.files[0].refused == 1
    assert rows.problems[0].startswith(f"{tmp_path / 'a.jsonl'}:3: ")
    assert why in rows.problems[0]


def test_all_refused_lines_are_counted_and_the_first_ones_shown(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.jsonl", [{"prompt": "p", "outcomes": {"simple": 1}}, *[b"{"] * 25])
    assert rows.files[0].refused == 25
    assert len(rows.problems) == PROBLEMS_SHOWN_MAX


def test_a_file_that_breaks_off_keeps_what_came_before(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    line = json.dumps({"prompt": "p", "outcomes": {"simple": 1}}).encode() + b"\n"
    # Not compressed, so that the first line is there whole.
    path.write_bytes(gzip.compress(line * 50, compresslevel=0)[:-500])
    rows = read_router_files([path], TIERS)
    assert rows.prompts == ("p",)
    assert "ends in the middle" in rows.problems[0]


def test_files_of_which_nothing_can_be_used_say_why(tmp_path: Path) -> None:
    with pytest.raises(RouterDataError, match="1 refused"):
        read(tmp_path / "a.jsonl", [b"{"])
    with pytest.raises(RouterDataError, match=r"none\.jsonl cannot be read"):
        read_router_files([tmp_path / "none.jsonl"], TIERS)


def test_for_a_sample_of_traffic_the_prompts_are_enough(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.jsonl", [{"prompt": "p"}, logged("q")], Wanted(("simple", "complex"), outcomes=False))
    assert rows.prompts == ("p", "q")
    assert np.isnan(rows.outcomes).all()


def test_fingerprints_see_through_case_blanks_and_numbers_alone() -> None:
    assert fingerprint("Add 12 and  7") == fingerprint("add 3 and 99")
    assert fingerprint("Add 12 and 7") != fingerprint("Subtract 12 and 7")
    assert fingerprint("\ud800") != fingerprint("")


def test_names_of_files_are_shown_without_what_a_terminal_obeys(tmp_path: Path) -> None:
    rows = read(tmp_path / "a\x1b[2J.jsonl", [{"prompt": "p", "outcomes": {"simple": 1}}, b"{"])
    text = files_text(rows)
    assert "a?[2J.jsonl:2: no JSON" in text
    assert all(character.isprintable() for character in text.replace("\n", ""))


def test_a_sample_of_too_many_rows_is_the_same_for_the_same_prompts_and_keeps_what_is_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(router_prepare, "ROWS_MAX", 40)
    lines = [{"prompt": f"{chr(97 + n % 26)} {chr(97 + n // 26)}", "outcomes": {"simple": n / 100}} for n in range(100)]
    rows = read(tmp_path / "a.jsonl", lines)
    found = router_prepare.sampled(rows, seed=1)
    assert (len(found), found.outcomes.shape, len(found.kinds)) == (40, (40, 3), 40)
    of = dict(zip(rows.prompts, rows.outcomes[:, 0].tolist(), strict=True))
    assert [of[prompt] for prompt in found.prompts] == found.outcomes[:, 0].tolist()
    turned = router_prepare.sampled(read(tmp_path / "b.jsonl", lines[::-1]), seed=1)
    assert set(turned.prompts) == set(found.prompts) != set(router_prepare.sampled(rows, seed=2).prompts)
    assert router_prepare.sampled(found, seed=1) is found


def test_lines_of_a_prompt_are_counted(tmp_path: Path) -> None:
    lines = [{"prompt": prompt} for prompt in "pqp"]
    rows = read(tmp_path / "a.jsonl", lines, Wanted(("simple", "complex"), outcomes=False))
    assert rows.counts.tolist() == [2, 1]

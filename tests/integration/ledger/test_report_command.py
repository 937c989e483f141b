"""`spillway report` and `spillway rollout` over decision logs: their figures are those of the raw lines."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest

from lab import check_report
from services.ledger.report.__main__ import main

SEED = 20_261_122
RECORDS = 400
TIERS = ("simple", "medium", "complex")
PRICES = {"simple": 1_000, "medium": 9_000, "complex": 60_000}


def attempt(dice: random.Random, tier: str, outcome: str) -> dict[str, Any]:
    return {
        "tier": tier,
        "target": f"{tier}-1",
        "model": "m",
        "provider": "lab",
        "outcome": f"OUTCOME_{outcome}",
        "purpose": "PURPOSE_ANSWER",
        "cost_nanousd": str(PRICES[tier] + dice.randrange(500)),
        "latency": f"{dice.randrange(1, 900) / 1000}s",
        "started_after": "0s",
    }


def record(dice: random.Random, number: int) -> dict[str, Any]:
    """One line, in protobuf's JSON."""
    kind = dice.choice(["MISS"] * 6 + ["EXACT_HIT", "SEMANTIC_HIT"])
    attempts: list[dict[str, Any]] = []
    answered = ""
    if kind == "MISS":
        for tier in TIERS[dice.randrange(2) :]:
            outcome = dice.choice(["ACCEPTED", "ACCEPTED", "REJECTED", "ERROR"])
            attempts.append(attempt(dice, tier, outcome))
            if outcome == "ACCEPTED":
                answered = tier
                break
    else:
        answered = dice.choice(TIERS)
    cost = sum(int(each["cost_nanousd"]) for each in attempts)
    line: dict[str, Any] = {
        "request_id": f"r{number}",
        "received_at": f"2026-11-{dice.randrange(1, 21):02d}T10:00:{dice.randrange(60):02d}Z",
        "tenant": dice.choice(["acme", "globex", ""]),
        "routing": {
            "policy_step": dice.choice(["complexity", "rule"]),
            "arm": dice.choice(["routed", "baseline"]),
            "classification": {
                "task_type": dice.choice(["TASK_TYPE_MATH", "TASK_TYPE_CODE"]),
                "complexity": "COMPLEXITY_SIMPLE",
                "probabilities": {"simple": 0.8, "medium": 0.1, "complex": 0.1},
                "confidence": 0.8,
                "layer": "LAYER_HEURISTICS",
            },
        },
        "cache": {"kind": f"KIND_{kind}"},
        "attempts": attempts,
        "cost": {"cost_nanousd": str(cost)},
        "latency": f"{dice.randrange(1, 2000) / 1000}s",
        "hops": [{"hop": "cache.exact", "latency": "0.001s"}],
        "escalations": sum(each["outcome"] == "OUTCOME_REJECTED" for each in attempts),
        "fallbacks": sum(each["outcome"] == "OUTCOME_ERROR" for each in attempts),
    }
    if answered:
        flagship = {"flagship_cost_nanousd": str(61_000), "flagship_target": "complex-1"}
        line |= {"tier": answered, "target": f"{answered}-1", "accepted": True, "cost": line["cost"] | flagship}
    else:
        line |= {"status_code": 14, "error_reason": "NO_MODEL_AVAILABLE"}
    return line


@pytest.fixture(scope="module")
def lines() -> list[dict[str, Any]]:
    dice = random.Random(SEED)
    return [record(dice, number) for number in range(RECORDS)]


@pytest.fixture
def log(tmp_path: Path, lines: list[dict[str, Any]]) -> Path:
    path = tmp_path / "decisions.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def figures(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[tuple[str, str, str], float]:
    assert main(["figures", *arguments, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    return {(row["section"], row["name"], row["measure"]): row["value"] for row in rows}


def test_every_figure_is_that_of_the_raw_log(
    capsys: pytest.CaptureFixture[str], log: Path, lines: list[dict[str, Any]]
) -> None:
    found = figures(capsys, "--log", str(log))
    cost = sum(int(line["cost"]["cost_nanousd"]) for line in lines)
    flagship = sum(int(line["cost"].get("flagship_cost_nanousd", 0)) for line in lines)
    kinds = Counter(line["cache"]["kind"] for line in lines)
    failed = sum("status_code" in line for line in lines)
    assert 0 < failed < kinds["KIND_MISS"]
    assert found["all", "all", "requests"] == RECORDS
    assert found["all", "all", "failed"] == failed
    assert found["all", "all", "cost_usd"] == pytest.approx(cost / 1e9)
    assert found["all", "all", "flagship_cost_usd"] == pytest.approx(flagship / 1e9)
    assert found["all", "all", "savings"] == pytest.approx(1 - cost / flagship)
    assert found["all", "all", "exact_hits"] == kinds["KIND_EXACT_HIT"]
    assert found["all", "all", "semantic_hits"] == kinds["KIND_SEMANTIC_HIT"]
    assert found["all", "all", "fallbacks"] == sum(line["fallbacks"] for line in lines)
    latencies = sorted(float(line["latency"].rstrip("s")) for line in lines)
    assert found["all", "all", "p95_s"] == pytest.approx(latencies[379])
    by_tenant: dict[str, int] = defaultdict(int)
    for line in lines:
        by_tenant[line["tenant"] or "(none)"] += int(line["cost"]["cost_nanousd"])
    for tenant, total in by_tenant.items():
        assert found["tenant", tenant, "cost_usd"] == pytest.approx(total / 1e9)


def test_a_second_count_of_the_raw_log_agrees_with_every_figure_of_the_report(
    capsys: pytest.CaptureFixture[str], lines: list[dict[str, Any]], tmp_path: Path
) -> None:
    dice = random.Random(SEED + 1)
    rich = [json.loads(json.dumps(line)) for line in (*lines, *lines, *lines)]
    for number, line in enumerate(rich):
        line |= {"request_id": f"r{number}", "tags": dice.sample(["x", "y", "z"], dice.randrange(3))}
        line["routing"]["classification"]["confidence"] = dice.random()
        if line["cache"]["kind"] == "KIND_EXACT_HIT":
            line["shared"] = dice.random() < 0.3
            if dice.random() < 0.3:
                line["routing"].pop("classification")
        for each in line["attempts"]:
            each["verdicts"] = [{"gate": "schema", "verdict": dice.choice(["VERDICT_PASS", "VERDICT_FAIL"])}]
            if dice.random() < 0.3:
                each["cost_excess_nanousd"] = str(int(each["cost_nanousd"]) // 2)
        if line["attempts"] and dice.random() < 0.3:
            line["attempts"].append(line["attempts"][-1] | {"purpose": "PURPOSE_JUDGE", "outcome": "OUTCOME_ACCEPTED"})
        if "status_code" in line:  # of the one before it, some on another day
            line |= {"request_id": f"r{number - 1}", "tenant": rich[number - 1]["tenant"]}
            if dice.random() < 0.7:
                line["received_at"] = rich[number - 1]["received_at"].replace("T10", "T11")
    log = write(tmp_path / "rich.jsonl", rich)
    named = [log, "--config", config(tmp_path / "spillway.yaml", "{}"), "--tiers", "simple"]
    assert check_report.main(named) == 0, capsys.readouterr().out
    out = capsys.readouterr().out
    assert " 0 differ" in out
    expected = check_report.figures(rich, ["simple"])
    key = ("all", "all", "failed_tries")
    assert expected[key][0] > 0
    assert expected["all", "all", "calls_bounded"][0] > 0
    assert ("drift", "task type", "psi") in expected
    assert check_report.compare(expected, expected | {key: (0.0, None, None)})


def test_every_tier_is_that_of_the_raw_log(
    capsys: pytest.CaptureFixture[str], log: Path, lines: list[dict[str, Any]]
) -> None:
    found = figures(capsys, "--log", str(log))
    for tier in TIERS:
        asked = [line for line in lines if any(each["tier"] == tier for each in line["attempts"])]
        outcomes = [{each["outcome"] for each in line["attempts"] if each["tier"] == tier} for line in asked]
        assert found["tier", tier, "asked"] == len(asked)
        assert found["tier", tier, "answered"] == sum(line.get("tier") == tier for line in lines)
        given = {"OUTCOME_ACCEPTED", "OUTCOME_REJECTED"}
        gave = [line for line, each in zip(asked, outcomes, strict=True) if each & given]
        left = sum(line.get("tier") != tier and line["attempts"][-1]["tier"] != tier for line in gave)
        share = found.get(("tier", tier, "escalated"))
        assert share == (None if tier == TIERS[-1] else pytest.approx(left / len(gave)))
        assert found["tier", tier, "fallback"] == pytest.approx(
            sum("OUTCOME_ERROR" in each for each in outcomes) / len(asked)
        )
        spent = sum(int(each["cost_nanousd"]) for line in lines for each in line["attempts"] if each["tier"] == tier)
        assert found["tier", tier, "cost_usd"] == pytest.approx(spent / 1e9)


def test_a_window_and_a_tenant_leave_out_all_others(
    capsys: pytest.CaptureFixture[str], log: Path, lines: list[dict[str, Any]]
) -> None:
    window = ("--since", "2026-11-05", "--until", "2026-11-10")
    found = figures(capsys, "--log", str(log), *window, "--tenant", "acme")
    inside = [line for line in lines if "2026-11-05" <= line["received_at"] < "2026-11-10" and line["tenant"] == "acme"]
    assert found["all", "all", "requests"] == len(inside) > 0
    attempts = sum(any(each["tier"] == "complex" for each in line["attempts"]) for line in inside)
    assert found["tier", "complex", "asked"] == attempts
    hops = found.get(("hop", "cache.exact", "count"))
    assert hops == len(inside)


def test_the_same_request_in_two_logs_counts_once(
    capsys: pytest.CaptureFixture[str], log: Path, tmp_path: Path
) -> None:
    again = tmp_path / "again.jsonl"
    again.write_bytes(log.read_bytes())
    assert figures(capsys, "--log", str(log), "--log", str(again))["all", "all", "requests"] == RECORDS


CONFIG = """
providers: {lab: {base_url: "http://127.0.0.1:1/v1"}}
tiers:
  - name: simple
    targets: [{name: s, provider: lab, model: m, price: {input_usd_per_mtok: 1, output_usd_per_mtok: 1}}]
"""


def config(path: Path, rollout: str) -> str:
    path.write_text(f"{CONFIG}policy: {{rollout: {rollout}}}\n")
    return str(path)


def advised(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = main(["rollout", *arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_the_rollout_counts_both_arms_and_says_what_is_missing(
    capsys: pytest.CaptureFixture[str], log: Path, lines: list[dict[str, Any]], tmp_path: Path
) -> None:
    named = ("--log", str(log), "--config", config(tmp_path / "spillway.yaml", "{percent: 10, task_types: {code: 5}}"))
    kinds = {"TASK_TYPE_MATH": ("math", 10), "TASK_TYPE_CODE": ("code", 5)}
    for found, (kind, percent) in kinds.items():
        code, said = advised(capsys, *named, "--task-type", kind)
        mine = [line for line in lines if line["routing"]["classification"]["task_type"] == found]
        assert {name: arm["requests"] for name, arm in said["arms"].items()} == Counter(
            line["routing"]["arm"] for line in mine
        )
        spent = sum(int(line["cost"]["cost_nanousd"]) for line in mine if line["routing"]["arm"] == "routed")
        assert said["arms"]["routed"]["cost_usd"] == pytest.approx(spent / 1e9)
        assert (code, said["verdict"], said["percent"]) == (3, "wait", percent)
    code, said = advised(capsys, *named)
    assert said["without"] == ["code"]
    assert main(["rollout", *named]) == 3
    out = capsys.readouterr().out
    assert "are needed" in out
    assert "cost a request" in out
    assert "not counted" in out


def test_a_rollout_to_everybody_is_complete(capsys: pytest.CaptureFixture[str], log: Path, tmp_path: Path) -> None:
    named = ("--log", str(log), "--config", config(tmp_path / "spillway.yaml", "{percent: 100}"))
    code, said = advised(capsys, *named)
    assert (code, said["verdict"], said["next"]) == (0, "complete", 100)
    assert main(["rollout", *named]) == 0
    assert "complete" in capsys.readouterr().out


def test_of_a_configuration_that_is_broken_no_percentage_is_assumed(
    capsys: pytest.CaptureFixture[str], log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = config(tmp_path / "spillway.yaml", "{percent: 120}")
    monkeypatch.setenv("SPILLWAY_CONFIG", broken)
    assert main(["rollout", "--log", str(log)]) == 2
    assert "policy.rollout.percent" in capsys.readouterr().err
    # The figures need no more of it than the order of the tiers.
    assert main(["figures", "--log", str(log)]) == 0


def test_a_kind_of_work_that_does_not_exist_is_wrong_usage(capsys: pytest.CaptureFixture[str], log: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["rollout", "--log", str(log), "--task-type", "maths"])
    assert ended.value.code == 2
    assert "maths" in capsys.readouterr().err


def answer_of(number: int, arm: str, **fields: Any) -> dict[str, Any]:
    routing = {"policy_step": "complexity", "arm": arm}
    return {
        "request_id": f"r{number}",
        "received_at": f"2026-11-10T10:{number // 60 % 60:02d}:{number % 60:02d}Z",
        "tenant": "acme",
        "prompt_sha256": f"{number % 7:064x}",
        "routing": routing,
        "cache": {"kind": "KIND_EXACT_HIT"},
        "tier": "simple",
        "target": "s",
        "accepted": True,
    } | fields


def write(path: Path, lines: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return str(path)


def test_hits_that_nobody_judged_are_of_the_kind_of_work_of_their_prompt(
    capsys: pytest.CaptureFixture[str], lines: list[dict[str, Any]], tmp_path: Path
) -> None:
    judged = lines[0]["routing"]["classification"] | {"task_type": "TASK_TYPE_MATH"}
    first = [
        answer_of(number, "routed", routing={"policy_step": "complexity", "arm": "routed", "classification": judged})
        for number in range(6)
    ]
    log = write(tmp_path / "log.jsonl", [*first, *(answer_of(number, "routed") for number in range(100, 107))])
    named = ("--log", log, "--config", config(tmp_path / "spillway.yaml", "{percent: 50, task_types: {math: 25}}"))
    _, said = advised(capsys, *named, "--task-type", "math")
    assert said["arms"]["routed"]["requests"] == 6 + 6  # of seven prompts one was never judged
    _, said = advised(capsys, *named)
    assert said["arms"]["routed"]["requests"] == 1


def test_a_request_that_was_tried_four_times_is_one_request(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    failed = {"status_code": 14, "error_reason": "NO_MODEL_AVAILABLE", "tier": "", "target": "", "accepted": False}
    runs = [answer_of(number, "routed", request_id="same", **failed) for number in range(3)]
    again = [answer_of(number, "routed", request_id="never", **failed) for number in range(10, 12)]
    another_day = {"request_id": "same", "received_at": "2026-11-14T10:00:00Z"}
    again.append(answer_of(0, "routed", **another_day, **failed))
    log = write(tmp_path / "log.jsonl", [*runs, answer_of(3, "routed", request_id="same"), *again])
    found = figures(capsys, "--log", log)
    assert (found["all", "all", "requests"], found["all", "all", "failed"]) == (3, 2)
    assert found["all", "all", "failed_tries"] == 4


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("--since", "yesterday"), 2, "--since"),
        (("--since", "1d", "--until", "2d"), 2, "--since must be before"),
        (("--export", "report.xls"), 2, ".parquet"),
    ],
)
def test_wrong_usage_says_what_is_wrong(
    capsys: pytest.CaptureFixture[str], log: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    assert main(["figures", "--log", str(log), *arguments]) == code
    assert says in capsys.readouterr().err


def test_a_line_that_is_no_record_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path, log: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text(log.read_text().splitlines()[0] + "\n\n{]\n")
    assert main(["figures", "--log", str(bad)]) == 1
    assert f"{bad}:3" in capsys.readouterr().err


def test_a_log_that_is_not_there_is_a_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["figures", "--log", str(tmp_path / "none.jsonl")]) == 1
    assert capsys.readouterr().err == f"spillway report: {tmp_path}/none.jsonl: No such file or directory\n"


def test_a_ledger_that_is_not_there_is_not_made(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    missing = tmp_path / "none.sqlite"
    assert main(["figures", "--database", f"sqlite:///{missing}"]) == 1
    assert str(missing) in capsys.readouterr().err
    assert not missing.exists()


def test_the_command_writes_the_page(tmp_path: Path, log: Path) -> None:
    command = [sys.executable, "-m", "spillway.cli", "report", "--log", str(log), "--html", "page.html"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "saved" in done.stdout
    assert done.stderr == "written: page.html\n"
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")

"""`spillway train`, `evaluate`, `calibrate classifier` and `heads` as a user runs them, and a service that follows."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import io
import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import grpc
import pytest

from lab import calibrate_classifier, evaluate_router, train_router
from services.classifier import heads_command
from services.classifier.__main__ import build
from services.classifier.head_store import BUILTIN, HeadStore
from services.runtime.config import Loaded, load
from services.runtime.server import start
from spillway.settings import Limits
from spillway.v1 import chat_pb2, classifier_pb2_grpc
from spillway.v1 import classifier_pb2 as pb
from tests.support.embedding_model import real_encoder
from tests.support.router_rows import made_up, write_outcomes

ROWS = made_up(240, seed=3)
PROOF, CHORE = ROWS[1][0], ROWS[0][0]


def spillway(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "spillway.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=110)


MAINS = {
    "train": train_router.main,
    "evaluate": evaluate_router.main,
    "calibrate": calibrate_classifier.main,
    "heads": heads_command.main,
}


def here(command: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The same command's module in this process, which spares two interpreters."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = MAINS[command]([*map(str, arguments)])
    return subprocess.CompletedProcess(command, code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A folder with outcomes.jsonl and heads/, of which `first` is in use; and what the training printed."""
    real_encoder()
    folder = tmp_path_factory.mktemp("training")
    data = write_outcomes(folder / "outcomes.jsonl", ROWS)
    with data.open("a") as file:
        file.write("no json\n")
    run = spillway("train", data, "--heads-dir", folder / "heads", "--version", "first", "--tiers", "simple,complex")
    assert run.returncode == 0, run.stderr
    return folder, run.stdout


def test_the_report_stands_beside_the_baselines_and_the_card_vouches_for_the_head(trained: tuple[Path, str]) -> None:
    folder, report = trained
    for judge in ("first", BUILTIN, "heuristics alone", "length alone", "random", "oracle"):
        assert re.search(rf"^{judge} +\d\.\d{{3}} \(", report, re.MULTILINE), judge
    assert f"{folder / 'outcomes.jsonl'}:241: no JSON" in report
    store = HeadStore(folder / "heads")
    assert store.current() == "first"
    card = store.card("first")
    assert card["data"]["files"][0]["used"] == 240
    assert card["data"]["files"][0]["refused"] == 1
    assert card["split"]["fitted"] + card["split"]["held_out"] == 240
    assert len(store.seen("first")) == card["split"]["fitted"]
    figures = card["figures"]["judges"]["first"]["simple"]
    # The made-up prompts are told apart by their words.
    assert figures["apgr"]["value"] > 0.6
    assert figures["rows"] == card["split"]["held_out"]
    model = store.load("first")
    assert (model.tiers, model.embedding_model) == (("simple", "complex"), card["embedding_model"])
    assert PROOF not in (folder / "heads" / "first.json").read_text()


def test_a_worse_head_is_refused_unless_forced_and_a_version_is_not_written_over(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    store = HeadStore(folder / "heads")
    wrong = write_outcomes(folder / "wrong.jsonl", [(prompt, not managed) for prompt, managed in made_up(240, seed=4)])
    exam = write_outcomes(folder / "exam.jsonl", made_up(200, seed=5))
    options = ["--heads-dir", folder / "heads", "--held-out", exam, "--tiers", "simple,complex", "--no-activate"]
    refused = here("train", wrong, *options, "--version", "wrong")
    assert refused.returncode == 3, refused.stderr
    assert "wrong is worse than first" in refused.stderr
    assert "wrong" not in [head.version for head in store.versions()]
    forced = here("train", wrong, *options, "--version", "wrong", "--force")
    assert forced.returncode == 0, forced.stderr
    assert store.card("wrong")["forced"] is True
    assert store.current() == "first"
    again = here("train", wrong, *options, "--version", "wrong", "--force")
    assert again.returncode == 1
    assert "never written over" in again.stderr


def test_a_head_of_outcomes_that_are_chance_is_refused_against_the_built_in_rule_too(tmp_path: Path) -> None:
    chance = random.Random(7)
    noise = write_outcomes(
        tmp_path / "noise.jsonl", [(text, chance.random() < 0.6) for text, _ in made_up(240, seed=7)]
    )
    run = here("train", noise, "--heads-dir", tmp_path / "heads", "--tiers", "simple,complex")
    assert run.returncode == 3, run.stderr
    assert "not shown to order prompts better than chance" in run.stderr
    assert HeadStore(tmp_path / "heads").current() == BUILTIN


def test_a_thin_middle_tier_is_left_out_of_the_head_and_does_not_keep_the_others_from_being_learned(
    tmp_path: Path,
) -> None:
    data = tmp_path / "thin.jsonl"
    with data.open("w") as file:
        for number, (prompt, managed) in enumerate(ROWS):
            middle = {"medium": managed} if number < 85 else {"medium": None}
            file.write(json.dumps({"prompt": prompt, "outcomes": {"simple": managed, **middle, "complex": 1}}) + "\n")
    run = here("train", data, "--heads-dir", tmp_path / "heads", "--version", "thin")
    assert run.returncode == 0, run.stderr
    assert "the head leaves it out" in run.stderr
    assert HeadStore(tmp_path / "heads").load("thin").tiers == ("simple", "complex")


def test_two_trainings_in_one_second_make_two_versions_and_a_picture_that_fails_takes_nothing_away(
    trained: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = dt.datetime(2026, 11, 22, 5, 19, 9, tzinfo=dt.UTC)
    monkeypatch.setattr(train_router, "_now", lambda: now)
    options = ["--heads-dir", tmp_path / "heads", "--tiers", "simple,complex", "--plot", tmp_path / "none" / "x.png"]
    for version in ("2026-11-22-051909", "2026-11-22-051909-2"):
        run = here("train", trained[0] / "outcomes.jsonl", *options)
        assert run.returncode == 0, run.stderr
        assert re.search(rf"^{version[:23]} ", run.stdout, re.MULTILINE)
        assert "no PNG was drawn" in run.stderr
        assert "policy.sufficiency_min is not set" in run.stderr
        store = HeadStore(tmp_path / "heads")
        assert store.current() == version == store.load(version).version
    assert store.previous() == "2026-11-22-051909"


def test_evaluate_leaves_out_what_the_head_was_fitted_to(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    options = ["--heads-dir", folder / "heads", "--tiers", "simple,complex", "--json"]
    run = spillway("evaluate", folder / "outcomes.jsonl", *options)
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    card = HeadStore(folder / "heads").card("first")
    assert found["left_out_as_fitted"] == card["split"]["fitted"]
    assert found["figures"]["rows"] == card["split"]["held_out"]
    # The same rows and the same head have the same figures.
    assert found["figures"]["judges"]["first"] == card["figures"]["judges"]["first"]


def test_evaluate_leaves_out_near_copies_of_what_the_head_was_fitted_to(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    others = made_up(200, seed=9)
    copies = [(f"{prompt}. Thanks.", managed) for prompt, managed in ROWS]
    near = write_outcomes(folder / "near.jsonl", [*copies, *others])
    options = ["--heads-dir", folder / "heads", "--tiers", "simple,complex", "--json"]
    found = json.loads(here("evaluate", near, *options).stdout)
    card = HeadStore(folder / "heads").card("first")
    assert found["left_out_as_fitted"] == card["split"]["fitted"]
    assert found["figures"]["rows"] == card["split"]["held_out"] + 200


def test_a_head_is_not_compared_on_near_copies_of_what_the_one_in_use_was_fitted_to(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    exam = write_outcomes(folder / "copies.jsonl", [(f"{prompt}. Thanks.", managed) for prompt, managed in ROWS])
    data = write_outcomes(folder / "new.jsonl", made_up(240, seed=12))
    options = ["--heads-dir", folder / "heads", "--tiers", "simple,complex", "--no-activate", "--version", "second"]
    run = here("train", data, "--held-out", exam, *options, "--json")
    fitted = HeadStore(folder / "heads").card("first")["split"]["fitted"]
    assert f"first was fitted to {fitted} of the 240 held-out prompts, or to near copies" in run.stderr
    assert json.loads(run.stdout)["against_it"][0]["rows"] == 240 - fitted


def test_calibrate_finds_the_threshold_of_a_share_and_the_share_of_a_threshold(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    common = [folder / "outcomes.jsonl", "--heads-dir", folder / "heads", "--json"]
    found = json.loads(spillway("calibrate", "classifier", *common, "--target-strong-share", "0.2").stdout)
    assert found["head"] == "first"
    share = found["strong_share"]
    assert (found["prompts"], found["requests"]) == (240, 240)
    assert found["prompts_fitted"] == HeadStore(folder / "heads").card("first")["split"]["fitted"]
    assert share["value"] == pytest.approx(0.2, abs=0.02)
    assert share["low"] < 0.2 < share["high"]
    back = json.loads(here("calibrate", *common, "--probability", found["sufficiency_min"]).stdout)
    assert back["strong_share"] == share
    assert spillway("calibrate", "classifier", *common).returncode == 2


def test_a_prompt_counts_as_often_as_traffic_has_it(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    common = ["--heads-dir", folder / "heads", "--json", "--probability", "0.5"]
    once = write_outcomes(folder / "once.jsonl", ROWS[:100])
    often = write_outcomes(folder / "often.jsonl", [*ROWS[:100], *[(PROOF, False)] * 900])
    few, many = (json.loads(here("calibrate", path, *common).stdout) for path in (once, often))
    assert (many["prompts"], many["requests"]) == (100, 1_000)
    sent = round(few["strong_share"]["value"] * 100)
    assert many["strong_share"]["value"] == pytest.approx((sent + 900) / 1_000)


def test_what_cannot_be_used_is_a_sentence_and_a_failure(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    heads = ["--heads-dir", folder / "heads"]
    few = write_outcomes(folder / "few.jsonl", ROWS[:20])
    for run, said in (
        (here("train", folder / "none.jsonl", *heads), "none.jsonl cannot be read"),
        (here("train", few, *heads, "--tiers", "simple,complex"), "no tier but the dearest has enough outcomes"),
        (here("train", few, *heads, "--tiers", "complex,simple"), "cheapest first"),
        (here("train", few, *heads, "--version", "../x"), "no name for a head"),
        (here("evaluate", few, *heads, "--head", "nobody", "--tiers", "simple,complex"), "enough outcomes"),
        (here("heads", "use", "nobody", *heads), "there is no head nobody"),
    ):
        assert run.returncode == 1
        assert said in run.stderr
        assert "Traceback" not in run.stderr


async def test_a_running_service_follows_what_is_put_to_use_and_rolled_back(
    trained: tuple[Path, str], tmp_path: Path
) -> None:
    heads = tmp_path / "heads"
    source = trained[0] / "heads"
    heads.mkdir()
    for name in ("first.npz", "first.json"):
        (heads / name).write_bytes((source / name).read_bytes())
    settings = load(None).settings
    settings = settings.model_copy(
        update={
            "classifier": settings.classifier.model_copy(update={"heads_dir": str(heads)}),
            "limits": Limits(drain_s=0, grace_s=5),
        }
    )
    loaded = Loaded(settings=settings, version="0" * 12, path=Path("test"))
    server = await start(await build(loaded), loaded, "127.0.0.1:0")

    async with grpc.aio.insecure_channel(server.address) as channel:
        stub: Any = classifier_pb2_grpc.ClassifierServiceStub(channel)

        async def ask(text: str) -> chat_pb2.Classification:
            message = chat_pb2.ChatMessage(role=chat_pb2.ROLE_USER, parts=[chat_pb2.ContentPart(text=text)])
            return (await stub.Classify(pb.ClassifyRequest(messages=[message]), timeout=30)).classification  # type: ignore[no-any-return]

        async def until(version: str) -> None:
            async with asyncio.timeout(60):
                while (await ask(PROOF)).version != version:
                    pass

        await until("builtin-1")
        for arguments, version in ((("use", "first"), "first"), (("rollback",), "builtin-1"), (("rollback",), "first")):
            run = await asyncio.to_thread(spillway, "heads", *arguments, "--heads-dir", heads)
            assert run.returncode == 0, run.stderr
            await until(version)
        proof, chore = await ask(PROOF), await ask(CHORE)
        assert proof.sufficiency[0].probability < chore.sufficiency[0].probability
        assert proof.cluster.startswith("first/")
    await server.stop()
    listed = here("heads", "list", "--heads-dir", heads)
    assert re.search(r"^\* first ", listed.stdout, re.MULTILINE)

"""Rules of the recorded rows and of their lookup."""

import gzip
import json
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.cache.matching.known_questions import same_words
from services.sandbox.replay import Miss, Replay
from services.sandbox.rows import (
    EXAMPLES_PATH,
    LINE_BYTES_MAX,
    RecordedAnswer,
    RecordingError,
    Row,
    parse_row,
    read_rows,
)
from spillway.cli.demo import PROMPTS

PARIS = RecordedAnswer("Paris.")
LYON = RecordedAnswer("Lyon, perhaps.", confidence=2)
EXAMPLES = list(read_rows(EXAMPLES_PATH))
FORGIVING = Replay(EXAMPLES, by_words=True)
REPLAY = Replay(
    [Row("  Capital of France?\n", {"big": PARIS, "small": LYON}), Row("Largest ocean?", {"big": RecordedAnswer("x")})],
    aliases={"house/cheap": "small"},
)


def line(**fields: object) -> bytes:
    return json.dumps({"prompt": "p", "answers": {"m": {"text": "t"}}, **fields}).encode()


def test_a_known_prompt_is_answered_with_the_text_of_the_model_asked_for() -> None:
    assert REPLAY.find(["Capital of France?"], "big") is PARIS
    assert REPLAY.find(["Capital of France?"], "small") is LYON


def test_white_space_around_a_prompt_does_not_matter_and_inside_it_does() -> None:
    assert REPLAY.find(["\t Capital of France? \n"], "big") is PARIS
    assert REPLAY.find(["Capital  of France?"], "big") is Miss.UNKNOWN_PROMPT


@pytest.mark.parametrize("prompt", ["capital of france", " Capital  of\nFRANCE ?! ", "Capital of France."])
def test_by_words_neither_capitals_nor_spaces_nor_the_marks_at_the_end_matter(prompt: str) -> None:
    rows = [Row("Capital of France?", {"big": PARIS})]
    assert Replay(rows, by_words=True).find([prompt], "big") is PARIS
    assert Replay(rows).find([prompt], "big") is Miss.UNKNOWN_PROMPT
    assert Replay(rows, by_words=True).find(["Capital France?"], "big") is Miss.UNKNOWN_PROMPT


def test_any_user_message_may_be_the_known_one_and_the_last_of_several_counts() -> None:
    assert REPLAY.find(["Hello", "Capital of France?", "Be brief"], "big") is PARIS
    assert REPLAY.find(["Largest ocean?", "Capital of France?"], "big") is PARIS


def test_an_unknown_prompt_and_a_model_without_an_answer_are_told_apart() -> None:
    assert REPLAY.find(["?"], "big") is Miss.UNKNOWN_PROMPT
    assert REPLAY.find([], "big") is Miss.UNKNOWN_PROMPT
    assert REPLAY.find(["Largest ocean?"], "small") is Miss.MODEL_NOT_FOUND


def test_an_alias_answers_as_the_model_it_stands_for_and_is_listed() -> None:
    assert REPLAY.find(["Capital of France?"], "house/cheap") is LYON
    assert REPLAY.models == ("big", "house/cheap", "small")


def test_a_prompt_that_comes_twice_keeps_the_first_answer_of_each_model() -> None:
    other = RecordedAnswer("other")
    replay = Replay([Row("p", {"a": PARIS}), Row(" p ", {"a": other, "b": LYON})])
    assert (replay.find(["p"], "a"), replay.find(["p"], "b"), len(replay)) == (PARIS, LYON, 1)


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_rows_are_read_from_plain_and_gzip_files_and_blank_lines_are_passed_over(tmp_path: Path, name: str) -> None:
    content = line(prompt="one") + b"\n\n" + line(prompt="zwölf") + b"\n"
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    assert [row.prompt for row in read_rows(path)] == ["one", "zwölf"]


@pytest.mark.parametrize(
    "bad",
    [
        b"{",
        b"[]",
        b"[" * 100_000,
        b"\xff",
        line(prompt=None),
        line(prompt="  "),
        line(answers=[]),
        line(answers={"m": {}}),
        line(answers={"m": {"text": "t", "confidence": 6}}),
        line(answers={"m": {"text": "t", "confidence": True}}),
        line(answers={"m": {"text": "t", "logprobs": 0.5}}),
        line(answers={"m": {"text": "t", "logprobs": False}}),
    ],
)
def test_a_row_that_does_not_fit_stops_the_reading_and_is_named(tmp_path: Path, bad: bytes) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(line() + b"\n" + bad)
    with pytest.raises(RecordingError, match=r"rows\.jsonl, line 2: "):
        list(read_rows(path))


def test_a_missing_file_a_broken_gzip_file_and_an_endless_line_are_recording_errors(tmp_path: Path) -> None:
    broken = tmp_path / "broken.gz"
    broken.write_bytes(gzip.compress(line() * 1_000)[:-20])
    endless = tmp_path / "endless.gz"
    endless.write_bytes(gzip.compress(b" " * (LINE_BYTES_MAX + 2)))
    for path in (tmp_path / "missing", broken, endless):
        with pytest.raises(RecordingError, match=path.name):
            list(read_rows(path))


@given(st.binary(max_size=200) | st.recursive(st.none() | st.text(), st.lists).map(lambda v: json.dumps(v).encode()))
def test_no_line_raises_anything_but_a_recording_error(content: bytes) -> None:
    with suppress(RecordingError):
        parse_row(content)


def test_the_examples_cover_every_kind_of_work_with_answers_of_all_three_models() -> None:
    rows = [json.loads(text) for text in EXAMPLES_PATH.read_text().splitlines()]
    kinds = {"chitchat", "factual_qa", "summarization", "extraction", "classification", "rewriting", "translation"}
    assert {row["task"] for row in rows} == kinds | {"code", "math", "reasoning", "creative", "other"}
    assert len({row["prompt"] for row in rows}) == len(rows) >= 40
    for row in rows:
        assert set(row["answers"]) == {"gpt-4.1-nano", "gpt-4.1-mini", "gpt-4.1"}
        assert row["answers"]["gpt-4.1"]["correct"]
    assert len(list(read_rows(EXAMPLES_PATH))) == len(rows)


def test_the_examples_weak_model_is_wrong_on_hard_rows_and_mostly_knows_it() -> None:
    rows = [json.loads(text) for text in EXAMPLES_PATH.read_text().splitlines()]
    weak = [row["answers"]["gpt-4.1-nano"] for row in rows if row["complexity"] == "complex"]
    assert len(weak) >= 6
    assert all(not answer["correct"] and answer["confidence"] < 3 for answer in weak)


@given(data=st.data())
def test_the_same_words_as_an_example_have_to_the_cache_get_its_answer(data: st.DataObject) -> None:
    prompt = data.draw(st.sampled_from(EXAMPLES)).prompt
    spelled = data.draw(st.sampled_from([prompt, prompt[0].lower() + prompt[1:], prompt.replace(" ", "  ")]))
    spelled = data.draw(st.sampled_from([spelled, spelled.rstrip("?."), f"{spelled.rstrip('?.')}.", f" {spelled} "]))
    if same_words(spelled) == same_words(prompt):
        assert FORGIVING.find([spelled], "gpt-4.1-nano") is FORGIVING.find([prompt], "gpt-4.1-nano")


def test_every_prompt_of_the_demonstration_is_an_example_of_every_model() -> None:
    for prompt in PROMPTS:
        for model in FORGIVING.models:
            assert isinstance(FORGIVING.find([prompt.text], model), RecordedAnswer), prompt.text

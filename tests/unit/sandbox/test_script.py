"""Rules of scripts."""

from typing import Any

import pytest

from services.sandbox.script import Playback, ScriptError, Step, parse_script


def texts(playback: Playback, model: str, calls: int) -> list[str | None]:
    return [None if (step := playback.next_step(model)) is None else step.text for _ in range(calls)]


def play(*steps: dict[str, Any], model: str = "m") -> Playback:
    return Playback(parse_script({"models": {model: list(steps)}}))


def test_steps_serve_calls_in_order_and_the_last_one_repeats() -> None:
    assert texts(play({"text": "a"}, {"text": "b"}), "m", 4) == ["a", "b", "b", "b"]


def test_a_step_serves_as_many_calls_as_it_says() -> None:
    assert texts(play({"text": "a", "times": 3}, {"text": "b"}), "m", 5) == ["a", "a", "a", "b", "b"]


def test_a_last_step_that_says_its_times_ends_in_normal_behaviour() -> None:
    assert texts(play({"text": "a", "times": 2}), "m", 5) == ["a", "a", None, None, None]


def test_a_step_without_fields_is_normal_behaviour() -> None:
    assert play({"text": "a"}, {}).next_step("m") == Step(text="a")
    assert parse_script({"models": {"m": [{}]}}).models["m"][0] == Step()


def test_models_without_steps_of_their_own_share_the_stars_position() -> None:
    playback = Playback(parse_script({"models": {"*": [{"text": "1"}, {"text": "2"}, {"text": "3"}], "m": [{}]}}))
    assert texts(playback, "x", 1) + texts(playback, "m", 1) + texts(playback, "y", 2) == ["1", None, "2", "3"]


def test_a_model_that_no_step_names_behaves_normally() -> None:
    assert play({"text": "a"}).next_step("other") is None


@pytest.mark.parametrize(
    ("step", "place"),
    [
        ({"latency": 1}, "models.m.0.latency"),
        ({"latency_s": -1}, "models.m.0.latency_s"),
        ({"latency_s": float("inf")}, "models.m.0.latency_s"),
        ({"times": 0}, "models.m.0.times"),
        ({"confidence": 6}, "models.m.0.confidence"),
        ({"status": 200}, "models.m.0.status"),
        ({"tool_calls": []}, "models.m.0.tool_calls"),
        ({"tool_calls": [{"name": "f", "args": "{}"}]}, "models.m.0.tool_calls.0.args"),
        ({"usage": {"prompt_tokens": 1}}, "models.m.0.usage.completion_tokens"),
        ({"status": 500, "hang": True}, "contradictory: status, hang"),
        ({"disconnect": True, "malformed_json": True}, "contradictory"),
        ({"text": "a", "empty": True}, "contradictory"),
        ({"refusal": True, "tool_calls": [{"name": "f"}]}, "contradictory"),
        ({"stream_cut_after_chunks": 1, "stream_error_after_chunks": 1}, "contradictory"),
        ({"retry_after_s": 1}, "needs status"),
        ({"error_code": "x"}, "need status"),
        ({"error_type": "x", "stream_cut_after_chunks": 1}, "need status"),
        ({"half_close": True}, "half_close needs"),
        ({"garbage": True, "status": 500}, "contradictory: status, garbage"),
        ({"garbage": True, "malformed_json": True}, "contradictory: malformed_json, garbage"),
        ({"cut_after_bytes": 1, "disconnect": True}, "contradictory"),
        ({"stream_cut_after_chunks": 1, "stream_garbage_after_chunks": 1}, "contradictory"),
        ({"drip": True, "drip_bytes_per_s": 1}, "contradictory"),
        ({"drip_bytes_per_s": 0}, "models.m.0.drip_bytes_per_s"),
        ({"finish_reason": "stop", "stop_sequence": "x"}, "contradictory"),
        ({"logprobs": 0.1}, "models.m.0.logprobs"),
        ({"logprobs": []}, "models.m.0.logprobs"),
        ({"logprobs": True}, "models.m.0.logprobs"),
        ({"logprobs": False}, "models.m.0.logprobs"),
        ({"logprobs": "made up"}, "models.m.0.logprobs"),
        ({"headers": {"Retry-After": "1"}}, "models.m.0.headers"),
        ({"headers": {"content-length": "1"}}, "models.m.0.headers"),
        ({"headers": {"x": "a\r\nb: c"}}, "models.m.0.headers"),
        ({"usage": {"prompt_tokens": 1, "completion_tokens": 1, "reasoning_tokens": 2}}, "reasoning_tokens are part"),
        (
            {"usage": {"prompt_tokens": 3, "completion_tokens": 1, "cached_tokens": 2, "cache_creation_tokens": 2}},
            "part of prompt_tokens",
        ),
    ],
)
def test_a_wrong_step_is_refused_with_its_place(step: dict[str, Any], place: str) -> None:
    with pytest.raises(ScriptError) as caught:
        parse_script({"models": {"m": [step]}})
    assert place in str(caught.value)


def test_every_fault_of_a_script_is_told_at_once() -> None:
    with pytest.raises(ScriptError) as caught:
        parse_script({"modles": {}, "models": {"m": [], "n": [{"hang": "maybe"}]}})
    assert all(place in str(caught.value) for place in ("modles", "models.m", "models.n.0.hang"))


@pytest.mark.parametrize("value", [None, [], "x", 3])
def test_a_script_that_is_no_object_is_refused(value: object) -> None:
    with pytest.raises(ScriptError, match="script: "):
        parse_script(value)

"""Conversations in a file of outcomes are read as the service reads them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lab.router_line import RefusedError, Wanted, parse_line
from services.classifier.conversation import judged_text
from spillway.chat import Message, Role

WANTED = Wanted(("simple", "complex"))
PROOF = "Prove that every bounded sequence of real numbers has a convergent subsequence."


def line(*turns: Any) -> bytes:
    return json.dumps({"messages": turns, "outcomes": {"simple": 1}}).encode()


def said(role: Any, content: Any) -> dict[str, Any]:
    return {"role": role, "content": content}


def test_a_turn_that_goes_on_is_read_with_what_it_goes_on_with_as_when_it_is_served() -> None:
    turns = [("system", "Be brief."), ("user", PROOF), ("assistant", "Done."), ("user", "And why?")]
    found = parse_line(line(*(said(role, text) for role, text in turns)), WANTED)
    assert found.prompt == judged_text([Message.of(Role(role), text) for role, text in turns])
    assert found.prompt == f"{PROOF}\nAnd why?"


def test_what_is_no_turn_is_passed_over_and_without_a_last_user_turn_of_text_there_is_no_prompt() -> None:
    odd = ["no turn", said(["user"], "x"), said("narrator", "x"), said(None, "x")]
    assert parse_line(line(*odd, said("user", PROOF)), WANTED).prompt == PROOF
    for turns in (odd, [said("user", PROOF), said("user", [{"type": "image_url"}])]):
        with pytest.raises(RefusedError, match="there is no prompt"):
            parse_line(line(*turns), WANTED)

"""The question of a turn, told from what is pasted beside it."""

from __future__ import annotations

import pytest

from services.classifier.turn import TEXT_CHARACTERS_MAX, split_turn

ARTICLE = "The council met on Tuesday and discussed the bridge, the budget and the trees in the park. " * 12


@pytest.mark.parametrize(
    ("text", "question"),
    [
        (f"When did the council meet?\n\n{ARTICLE}", "When did the council meet?"),
        (f"{ARTICLE}\n\nWhen did the council meet?", "When did the council meet?"),
        (f"Read this:\n\n{ARTICLE}\n\n{ARTICLE}\n\nWhen was it?", "Read this:\n\nWhen was it?"),
        ("Translate into French: the train leaves at noon from track four", "Translate into French"),
        ("What does this do?\n```python\nfor x in xs: print(x)\n```", "What does this do?"),
        ("> you promised to call\n> and you never did\nMake my answer polite", "Make my answer polite"),
        (f"Here is a mail. When did they meet? {ARTICLE}", "Here is a mail. When did they meet?"),
    ],
)
def test_pasted_material_is_set_aside(text: str, question: str) -> None:
    turn = split_turn(text)
    assert turn.question == question
    assert turn.context


@pytest.mark.parametrize(
    "text",
    [
        "",
        "What is the capital of France?",
        "Prove: every finite integral domain is a field.",
        "Tom has 3 boxes with 12 pens each. He gives away 7 pens. How many pens does he have left?",
        "Compare these designs: justify the choice, quantify the risk and resolve the contradiction",
    ],
)
def test_a_turn_without_material_is_all_question(text: str) -> None:
    turn = split_turn(text)
    assert turn.question == text
    assert turn.context == ""
    assert turn.context_characters == 0


def test_a_turn_of_code_alone_is_the_question() -> None:
    turn = split_turn("```\nprint(1)\n```")
    assert turn.question == "print(1)"
    assert turn.has_code_block


def test_program_text_without_a_fence_is_material() -> None:
    turn = split_turn("What does this return for 3?\n\ndef f(n):\n    total = n * 2\n    return total + 1\n")
    assert turn.question == "What does this return for 3?"
    assert turn.has_code_block
    prose = "I think so;\nlet me know what you say,\nand return soon"
    assert split_turn(prose).question == prose


def test_only_the_head_and_the_tail_of_a_huge_turn_are_read() -> None:
    turn = split_turn("Summarise this:\n\n" + "x" * 10_000_000)
    assert turn.question == "Summarise this:"
    assert len(turn.context) <= TEXT_CHARACTERS_MAX
    assert turn.context_characters > 9_000_000

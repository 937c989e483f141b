"""Near misses that each guard is there for, and paraphrases that must still be hits."""

from __future__ import annotations

import pytest

from services.cache.verifier import Verification, verify


def judge(a: str, b: str) -> Verification:
    return verify(a, b, similarity=0.97, similarity_min=0.92)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("How do I reset my password?", "how can i reset my password"),
        ("What is the capital of France?", "whats the captial of france"),
        ("What is the capital of France?", "Tell me the capital of France, please."),
        ("How much does a large pizza cost?", "How much do large pizzas cost?"),
        ("Why is the sky blue?", "Can you tell me why the sky is blue?"),
        ("How many days are in 2 weeks?", "How many days are in two weeks?"),
        ("symptoms of the common cold", "What are the common cold symptoms?"),
        ("How do I delete my account?", "How do I remove my account?"),
        ("Does it weigh 10kg?", "does it weigh 10 kg"),
        ("Is 1,000 a lot?", "is 1000 a lot"),
        ("How to get to the airport?", "how do I get to the airport"),
        ("Find out the price", "find out the price in here"),
        ("How do I fix my car?", "How can I repair my automobile?"),
        ("Wie spät ist es?", "wie spät ist es"),
        ("日本の首都はどこですか。", "日本の首都はどこですか。 "),
    ],
)
def test_a_paraphrase_is_a_hit(a: str, b: str) -> None:
    verdict = judge(a, b)
    assert verdict.hit, verdict.reason


@pytest.mark.parametrize(
    ("guard", "a", "b"),
    [
        ("antonyms", "How do I turn on the heater?", "How do I turn off the heater?"),
        ("antonyms", "How do I turn it on?", "How do I turn it on and off?"),
        ("antonyms", "Enable two-factor login", "Disable two-factor login"),
        ("antonyms", "Should I buy gold?", "Should I sell gold?"),
        ("antonyms", "What can I eat before a run?", "What can I eat after a run?"),
        ("antonyms", "minimum age to drive", "maximum age to drive"),
        ("antonyms", "What is my name?", "What is your name?"),
        ("antonyms", "Who is the president of Peru?", "Who was the president of Peru?"),
        ("antonyms", "How do I log in?", "How do I log out?"),
        ("negation", "Which foods are safe for dogs?", "Which foods are not safe for dogs?"),
        ("antonyms", "Can I fly with a passport?", "Can I fly without a passport?"),
        ("negation", "Is this mushroom edible?", "Is this mushroom nonedible?"),
        ("negation", "I can log in", "I can't log in"),
        ("numbers", "What is 5% of 200?", "What is 6% of 200?"),
        ("numbers", "Who won the 1998 world cup?", "Who won the 2002 world cup?"),
        ("numbers", "Where is order A-1001?", "Where is order A-1010?"),
        ("numbers", "a two bedroom flat", "a three bedroom flat"),
        ("numbers", "Does it weigh 10 kg?", "Does it weigh 10 lbs?"),
        ("numbers", "open on Monday", "open on Sunday"),
        ("numbers", "features of GPT-4", "features of GPT-5"),
        ("literals", "What does 'bank' mean?", "What does 'bench' mean?"),
        ("literals", 'Translate "good cheer"', "Translate “good grief”"),
        ("code", "What does foo_bar do?", "What does foo_baz do?"),
        ("code", "Is C++ hard?", "Is C# hard?"),
        ("code", "difference of a == b", "difference of a != b"),
        ("names", "weather in Paris today", "weather in Rome today"),
        ("names", "flights of Delta to Oslo", "flights of SAS to oslo"),
        ("question", "When did Rome fall?", "Why did Rome fall?"),
        ("question", "How many people live here?", "How much people live here?"),
        ("question", "Is the sky blue?", "Why is the sky blue?"),
        ("words", "What is the capital of france?", "What is the capital of germany?"),
        ("words", "How do I reset my password?", "How do I reset my router?"),
        ("words", "I love this dessert", "I love this desert"),
        ("order", "Convert 100 USD to EUR", "Convert 100 EUR to USD"),
        ("order", "flights from paris to london", "flights from london to paris"),
        ("order", "Is python faster than ruby?", "Is ruby faster than python?"),
        ("order", "does the dog bite the man", "does the man bite the dog"),
        ("order", "What do locals find annoying in tourists?", "What do tourists find annoying about locals?"),
        ("words", "How does nail polish remove nail polish?", "How do you remove nail polish?"),
        ("order", "Does she love him?", "Does he love her?"),
        ("language", "Wie ist das Wetter in Bonn?", "Wie war das Wetter in Bonn?"),
        ("language", "東京の天気", "大阪の天気"),
        ("language", "Где музей?", "Где метро?"),
    ],
)
def test_a_near_miss_is_refused_by_its_guard(guard: str, a: str, b: str) -> None:
    verdict = judge(a, b)
    assert not verdict.hit
    if a.startswith("Does she"):  # two guards see this one
        assert verdict.guard in {"order", "antonyms"}
    else:
        assert verdict.guard == guard, verdict.reason


def test_a_verdict_explains_itself() -> None:
    assert judge("turn on the light", "turn off the light").reason == 'antonyms: "off" and "on" are exchanged'
    assert "0.970" in judge("turn on the light", "turn the light on").reason
    assert verify("a", "a", similarity=0.5, similarity_min=0.9).reason == "similarity 0.500 is below 0.900"

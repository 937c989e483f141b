"""What one call may take of the money that is left."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from services.executor.budget import estimate_call
from services.executor.ceiling import full_nanousd, grant, least_nanousd
from spillway.bounds import (
    OUTPUT_TOKENS_DEFAULT,
    OUTPUT_TOKENS_LEAST,
    cost_most,
    input_tokens_most,
    text_tokens_most,
)
from spillway.chat import (
    ChatRequest,
    FormatKind,
    GenerationParams,
    ImagePart,
    Message,
    ResponseFormat,
    Role,
    TextPart,
    ToolCall,
    ToolDefinition,
    Usage,
)
from spillway.settings import Price
from tests.unit.executor.builders import chat

PRICE = Price(input_usd_per_mtok=1.0, output_usd_per_mtok=2.0)
prices = st.builds(
    Price,
    input_usd_per_mtok=st.floats(0, 100),
    output_usd_per_mtok=st.floats(0, 100),
    cached_input_usd_per_mtok=st.none() | st.floats(0, 200),
)


def byte_level(*, normal: bool) -> Tokenizer:
    """A byte-level BPE that has learned nothing: no text has more tokens with any other."""
    tokenizer = Tokenizer(models.BPE({letter: n for n, letter in enumerate(pre_tokenizers.ByteLevel.alphabet())}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if normal:
        tokenizer.normalizer = normalizers.NFKC()
    return tokenizer


TOKENIZERS = [byte_level(normal=normal) for normal in (False, True)]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=200))
def test_no_text_has_more_tokens_than_its_bound(text: str) -> None:
    for tokenizer in TOKENIZERS:
        assert len(tokenizer.encode(text).ids) <= text_tokens_most(text)


def test_a_character_that_normalises_to_many_is_bounded_too() -> None:
    ligature = "\ufdfa" * 10
    assert text_tokens_most(ligature) == len(TOKENIZERS[1].encode(ligature).ids) > len(ligature.encode())


def test_everything_that_is_sent_is_in_the_bound() -> None:
    bare = input_tokens_most(chat("x"))
    schema = '{"type":"object","properties":{"a":{"type":"string","description":"' + "s" * 2_000 + '"}}}'
    more = [
        ChatRequest((*chat("x").messages, Message.of(Role.ASSISTANT, "y" * 100))),
        ChatRequest((Message(Role.USER, (TextPart("x"), ImagePart(url="https://x/y"))),)),
        chat("x", tools=(ToolDefinition("f", "d" * 50, schema),)),
        chat("x", response_format=ResponseFormat(FormatKind.JSON_SCHEMA, schema)),
        ChatRequest((*chat("x").messages, Message(Role.ASSISTANT, tool_calls=(ToolCall("1", "f", "[" * 500),)))),
    ]
    least = [bare + 100, bare + 48_169, bare + 50 + len(schema) + 804, bare + len(schema), bare + 500]
    assert all(input_tokens_most(each) > enough for each, enough in zip(more, least, strict=True))


@given(prices, st.integers(0, 10**7), st.integers(0, 10**6), st.data())
def test_no_usage_within_the_tokens_costs_more_than_the_bound(
    price: Price, tokens_in: int, tokens_out: int, data: st.DataObject
) -> None:
    used_in = data.draw(st.integers(0, tokens_in))
    usage = Usage(used_in, data.draw(st.integers(0, tokens_out)), data.draw(st.integers(0, used_in)))
    assert price.nanousd(usage) <= cost_most(price, tokens_in, tokens_out)


@given(prices, st.integers(0, 10**9), st.none() | st.integers(1, 10_000), st.text(max_size=50))
def test_a_grant_costs_at_most_what_is_left_and_is_as_large_as_it_can_be(
    price: Price, left: int, limit: int | None, text: str
) -> None:
    asked = chat(text or "x", generation=GenerationParams(max_output_tokens=limit))
    granted = grant(asked, price, left)
    if granted is None:
        assert least_nanousd(asked, price) > left
        return
    sent = granted.chat.generation.max_output_tokens
    assert sent is not None
    assert granted.most == Usage(input_tokens_most(asked), sent)
    assert cost_most(price, granted.most.input_tokens, sent) == granted.nanousd <= left
    wanted = limit or OUTPUT_TOKENS_DEFAULT
    assert min(wanted, OUTPUT_TOKENS_LEAST) <= sent <= wanted
    assert sent == wanted or cost_most(price, granted.most.input_tokens, sent + 1) > left


def test_without_a_ceiling_nothing_is_changed() -> None:
    granted = grant(chat(), PRICE, None)
    assert granted is not None
    assert (granted.chat, granted.most, granted.nanousd) == (chat(), None, estimate_call(chat(), PRICE))


@pytest.mark.parametrize(("limit", "sent"), [(None, OUTPUT_TOKENS_DEFAULT), (7, 7), (100_000, 100_000)])
def test_with_enough_money_the_limit_is_the_request_s_own(limit: int | None, sent: int) -> None:
    asked = chat(generation=GenerationParams(max_output_tokens=limit))
    granted = grant(asked, PRICE, full_nanousd(asked, PRICE))
    assert granted is not None
    assert granted.chat.generation.max_output_tokens == sent

"""Keys and partitions: injective, and nothing that changes the answer is left out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from services.cache.entry import Scope
from services.cache.partition import (
    BUCKET_DIGITS,
    KEY_DOMAIN,
    _list,
    encode_request,
    entry_key,
    partition_id,
    semantic_question,
    tenant_bucket,
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
    ToolChoice,
    ToolChoiceMode,
    ToolDefinition,
)

# Few and short, and full of what a sloppy encoding stumbles over: so that near collisions are common.
texts = st.text(alphabet="ab\0|:,1", max_size=3)
floats = st.none() | st.sampled_from([0.0, -0.0, 1.0, 0.5, -2.0])
parts = st.builds(TextPart, texts) | st.builds(ImagePart, texts, st.binary(max_size=2), texts, texts)
calls = st.builds(ToolCall, texts, texts, texts)
messages = st.builds(
    Message,
    st.sampled_from(Role),
    st.lists(parts, max_size=2).map(tuple),
    st.lists(calls, max_size=2).map(tuple),
    texts,
    texts,
)
generations = st.builds(
    GenerationParams,
    floats,
    floats,
    st.none() | st.integers(1, 3),
    st.lists(texts, max_size=2).map(tuple),
    st.none() | st.integers(-(2**63), 2**63 - 1),
    floats,
    floats,
)
chats = st.builds(
    ChatRequest,
    st.lists(messages, max_size=3).map(tuple),
    generations,
    st.lists(st.builds(ToolDefinition, texts, texts, texts, st.booleans()), max_size=2).map(tuple),
    st.none() | st.builds(ToolChoice, st.sampled_from(ToolChoiceMode), texts),
    st.none() | st.builds(ResponseFormat, st.sampled_from(FormatKind), texts, texts, st.booleans()),
)
scopes = st.builds(Scope, texts, texts, texts, texts)


def encoded(scope: Scope, chat: ChatRequest) -> bytes:
    return encode_request(KEY_DOMAIN, scope, chat, hole_at=None)


@given(scopes, chats, scopes, chats)
def test_two_requests_have_the_same_bytes_exactly_when_they_are_equal(
    scope_a: Scope, chat_a: ChatRequest, scope_b: Scope, chat_b: ChatRequest
) -> None:
    assert (encoded(scope_a, chat_a) == encoded(scope_b, chat_b)) == ((scope_a, chat_a) == (scope_b, chat_b))


def variants(value: Any) -> Iterator[Any]:
    """The value with exactly one leaf changed, once for every leaf however deep, or with one item of a list missing."""
    if is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            for changed in variants(getattr(value, field.name)):
                yield replace(value, **{field.name: changed})
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield value[:index] + value[index + 1 :]
            for changed in variants(item):
                yield (*value[:index], changed, *value[index + 1 :])
    elif isinstance(value, Enum):
        yield from (other for other in type(value) if other is not value)
    elif isinstance(value, bool):
        yield not value
    elif value is None:
        return  # what may be absent is there in the requests that matter
    else:
        yield value * 2  # no text, bytes or number here is empty or zero


def full_message(role: Role) -> Message:
    return Message(
        role,
        (TextPart("text"), ImagePart("https://u", b"data", "image/png", "low"), TextPart("more")),
        (ToolCall("id", "tool", "{}"), ToolCall("id2", "tool", "[]")),
        "call",
        "name",
    )


FULL = ChatRequest(
    tuple(full_message(role) for role in (Role.SYSTEM, Role.USER, Role.ASSISTANT, Role.USER)),
    GenerationParams(0.5, 0.25, 10, ("stop", "halt"), 7, 0.125, 0.75),
    (ToolDefinition("tool", "does", "{}", False), ToolDefinition("other", "too", "[]", True)),
    ToolChoice(ToolChoiceMode.NAMED, "tool"),
    ResponseFormat(FormatKind.JSON_SCHEMA, "{}", "form", False),
)
FULL_SCOPE = Scope("tenant", "namespace", "1", "2026-11")


def test_every_leaf_of_a_request_is_in_its_key_and_all_but_the_last_user_texts_in_its_partition() -> None:
    asked: list[tuple[Scope, ChatRequest]] = [(FULL_SCOPE, FULL)]
    asked += [(scope, FULL) for scope in variants(FULL_SCOPE)]
    asked += [(FULL_SCOPE, chat) for chat in variants(FULL)]
    asked += [
        (FULL_SCOPE, replace(FULL, generation=replace(FULL.generation, **cast("Any", {field.name: None}))))
        for field in fields(GenerationParams)
        if field.name != "stop"
    ]
    asked += [(FULL_SCOPE, replace(FULL, tool_choice=None)), (FULL_SCOPE, replace(FULL, response_format=None))]
    assert len(set(asked)) == len(asked) > 100
    assert len({entry_key(scope, chat) for scope, chat in asked}) == len(asked)
    contexts = {(scope, _without_last_user_text(chat)) for scope, chat in asked}
    assert len(contexts) == len(asked) - 2  # two texts in the last user turn
    assert len({partition_id(scope, chat, "m") for scope, chat in asked}) == len(contexts)


def test_no_text_is_taken_for_the_marks_of_the_encoding() -> None:
    marks = ["", "S", "SS", "SSS", "L", "NS", "S\0", "\0S"]
    asked = [Scope(a, b, c, d) for a in marks for b in marks for c in marks for d in marks]
    assert len({encoded(scope, FULL) for scope in asked}) == len(asked)


@given(st.lists(texts, min_size=2, max_size=4), st.data())
def test_text_moved_over_a_boundary_moves_the_key(words: list[str], data: st.DataObject) -> None:
    cut = data.draw(st.integers(1, len(words) - 1))
    one = ChatRequest((Message(Role.USER, tuple(TextPart(word) for word in words)),))
    joined = "".join(words[:cut])
    other = ChatRequest((Message(Role.USER, (TextPart(joined), *(TextPart(word) for word in words[cut:]))),))
    assert (entry_key(Scope(), one) == entry_key(Scope(), other)) == (one == other)


@given(scopes, chats, texts, st.data())
def test_every_change_beside_the_last_user_text_leaves_the_partition(
    scope: Scope, chat: ChatRequest, model: str, data: st.DataObject
) -> None:
    other_scope, other_chat, other_model = scope, chat, model
    name = data.draw(st.sampled_from(["scope", "model", *(field.name for field in fields(ChatRequest))]))
    if name == "scope":
        other_scope = data.draw(scopes)
    elif name == "model":
        other_model = data.draw(texts)
    else:
        other_chat = replace(chat, **{name: getattr(data.draw(chats), name)})
    same = (scope, _without_last_user_text(chat), model) == (
        other_scope,
        _without_last_user_text(other_chat),
        other_model,
    )
    assert (partition_id(scope, chat, model) == partition_id(other_scope, other_chat, other_model)) == same


@given(scopes, chats, texts, texts)
def test_another_last_user_text_stays_in_the_partition_but_not_at_the_key(
    scope: Scope, chat: ChatRequest, before: str, after: str
) -> None:
    one = replace(chat, messages=(*chat.messages, Message.of(Role.USER, before)))
    other = replace(chat, messages=(*chat.messages, Message.of(Role.USER, after)))
    assert partition_id(scope, one, "m") == partition_id(scope, other, "m")
    assert (entry_key(scope, one) == entry_key(scope, other)) == (before == after)
    assert semantic_question(one) == before == one.last_user_text


@given(scopes, chats)
def test_keys_and_partitions_never_meet(scope: Scope, chat: ChatRequest) -> None:
    key = entry_key(scope, chat)
    assert key != partition_id(scope, chat, "")
    assert len(key) == BUCKET_DIGITS + 64
    assert key.startswith(tenant_bucket(scope.tenant))
    assert set(key) <= set("0123456789abcdef")


def _without_last_user_text(chat: ChatRequest) -> tuple[object, ...]:
    """The deliberately plain model of a partition: the request with a marker for each text of the last user turn."""
    messages: list[object] = list(chat.messages)
    for index in range(len(messages) - 1, -1, -1):
        message = chat.messages[index]
        if message.role is Role.USER:
            hollow = tuple("hole" if isinstance(part, TextPart) else part for part in message.parts)
            messages[index] = (hollow, message.tool_calls, message.tool_call_id, message.name)
            break
    rest = tuple(getattr(chat, field.name) for field in fields(chat) if field.name != "messages")
    return (*messages, "and", *rest)


def test_a_list_says_where_it_ends() -> None:
    """Nothing of a request needs that today: its lists are told apart by what may stand in them. The next one may."""
    assert _list([_list([]), b"F"]) != _list([_list([b"F"])])

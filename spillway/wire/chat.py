"""What is asked of a model, on the wire: spillway.chat to and from chat.proto."""

from __future__ import annotations

from collections.abc import Sequence

from spillway.chat import (
    ChatRequest,
    Embedding,
    FormatKind,
    GenerationParams,
    ImagePart,
    Message,
    Part,
    ResponseFormat,
    TextPart,
    ToolCall,
    ToolChoice,
    ToolChoiceMode,
    ToolDefinition,
    Usage,
)
from spillway.v1 import chat_pb2
from spillway.validation.chat import MESSAGES_MAX, PARTS_MAX, PIECES_MAX, STOPS_MAX, TOOL_CALLS_MAX, TOOLS_MAX
from spillway.wire.fields import (
    FORMAT_KINDS,
    ROLES,
    TOOL_CHOICE_MODES,
    WireError,
    at_most,
    join,
)

__all__ = [
    "chat_request_from_proto",
    "chat_request_to_proto",
    "embedding_from_proto",
    "embedding_to_proto",
    "message_from_proto",
    "message_to_proto",
    "messages_from_proto",
    "tool_call_from_proto",
    "tool_call_to_proto",
    "usage_from_proto",
    "usage_to_proto",
]

_NO_WISHES = GenerationParams()


def _part_to_proto(value: Part) -> chat_pb2.ContentPart:
    if isinstance(value, TextPart):
        return chat_pb2.ContentPart(text=value.text)
    image = chat_pb2.ImagePart(media_type=value.media_type, detail=value.detail)
    if value.data:
        image.data = value.data
    else:
        image.url = value.url
    return chat_pb2.ContentPart(image=image)


def _part_from_proto(pb: chat_pb2.ContentPart, path: str) -> Part:
    which = pb.WhichOneof("part")
    if which == "text":
        return TextPart(pb.text)
    if which is None:
        raise WireError(path, "must be a text or an image")
    image = pb.image
    if image.WhichOneof("source") is None:
        raise WireError(join(path, "image"), "must have a url or data")
    return ImagePart(url=image.url, data=image.data, media_type=image.media_type, detail=image.detail)


def tool_call_to_proto(value: ToolCall) -> chat_pb2.ToolCall:
    return chat_pb2.ToolCall(id=value.id, name=value.name, arguments_json=value.arguments_json)


def tool_call_from_proto(pb: chat_pb2.ToolCall) -> ToolCall:
    return ToolCall(id=pb.id, name=pb.name, arguments_json=pb.arguments_json)


def message_to_proto(value: Message) -> chat_pb2.ChatMessage:
    return chat_pb2.ChatMessage(
        role=ROLES.to_proto(value.role),
        parts=[_part_to_proto(part) for part in value.parts],
        tool_calls=[tool_call_to_proto(call) for call in value.tool_calls],
        tool_call_id=value.tool_call_id,
        name=value.name,
    )


def message_from_proto(pb: chat_pb2.ChatMessage, path: str = "message") -> Message:
    """Raises WireError for a role that is unset or unknown, a part that is nothing, and for too much of anything."""
    at_most(pb.parts, PARTS_MAX, join(path, "parts"))
    at_most(pb.tool_calls, TOOL_CALLS_MAX, join(path, "tool_calls"))
    return Message(
        role=ROLES.required(pb.role, join(path, "role")),
        parts=tuple(_part_from_proto(part, f"{join(path, 'parts')}[{i}]") for i, part in enumerate(pb.parts)),
        tool_calls=tuple(tool_call_from_proto(call) for call in pb.tool_calls),
        tool_call_id=pb.tool_call_id,
        name=pb.name,
    )


def messages_from_proto(pbs: Sequence[chat_pb2.ChatMessage], path: str = "messages") -> tuple[Message, ...]:
    """A conversation. Raises WireError; for one that is too long, at once."""
    at_most(pbs, MESSAGES_MAX, path)
    if sum(len(pb.parts) + len(pb.tool_calls) for pb in pbs) > PIECES_MAX:
        raise WireError(path, f"must have at most {PIECES_MAX:,} parts and tool calls together")
    return tuple(message_from_proto(pb, f"{path}[{i}]") for i, pb in enumerate(pbs))


def _generation_to_proto(value: GenerationParams) -> chat_pb2.GenerationParams:
    return chat_pb2.GenerationParams(
        temperature=value.temperature,
        top_p=value.top_p,
        max_output_tokens=value.max_output_tokens,
        stop=value.stop,
        seed=value.seed,
        presence_penalty=value.presence_penalty,
        frequency_penalty=value.frequency_penalty,
    )


def _generation_from_proto(pb: chat_pb2.GenerationParams, path: str) -> GenerationParams:
    at_most(pb.stop, STOPS_MAX, join(path, "stop"))
    return GenerationParams(
        temperature=pb.temperature if pb.HasField("temperature") else None,
        top_p=pb.top_p if pb.HasField("top_p") else None,
        max_output_tokens=pb.max_output_tokens if pb.HasField("max_output_tokens") else None,
        stop=tuple(pb.stop),
        seed=pb.seed if pb.HasField("seed") else None,
        presence_penalty=pb.presence_penalty if pb.HasField("presence_penalty") else None,
        frequency_penalty=pb.frequency_penalty if pb.HasField("frequency_penalty") else None,
    )


def _tool_to_proto(value: ToolDefinition) -> chat_pb2.ToolDefinition:
    return chat_pb2.ToolDefinition(
        name=value.name,
        description=value.description,
        parameters_schema_json=value.parameters_schema_json,
        strict=value.strict,
    )


def _tool_from_proto(pb: chat_pb2.ToolDefinition) -> ToolDefinition:
    return ToolDefinition(
        name=pb.name,
        description=pb.description,
        parameters_schema_json=pb.parameters_schema_json,
        strict=pb.strict,
    )


def _tool_choice_to_proto(value: ToolChoice) -> chat_pb2.ToolChoice:
    return chat_pb2.ToolChoice(mode=TOOL_CHOICE_MODES.to_proto(value.mode), name=value.name)


def _tool_choice_from_proto(pb: chat_pb2.ToolChoice, path: str) -> ToolChoice:
    mode = TOOL_CHOICE_MODES.optional(pb.mode, join(path, "mode"))
    return ToolChoice(mode=mode or ToolChoiceMode.AUTO, name=pb.name)


def _response_format_to_proto(value: ResponseFormat) -> chat_pb2.ResponseFormat:
    return chat_pb2.ResponseFormat(
        kind=FORMAT_KINDS.to_proto(value.kind),
        schema_json=value.schema_json,
        name=value.name,
        strict=value.strict,
    )


def _response_format_from_proto(pb: chat_pb2.ResponseFormat, path: str) -> ResponseFormat:
    kind = FORMAT_KINDS.optional(pb.kind, join(path, "kind"))
    return ResponseFormat(
        kind=kind or FormatKind.TEXT,
        schema_json=pb.schema_json,
        name=pb.name,
        strict=pb.strict,
    )


def chat_request_to_proto(value: ChatRequest) -> chat_pb2.ChatRequest:
    return chat_pb2.ChatRequest(
        messages=[message_to_proto(message) for message in value.messages],
        generation=None if value.generation == _NO_WISHES else _generation_to_proto(value.generation),
        tools=[_tool_to_proto(tool) for tool in value.tools],
        tool_choice=None if value.tool_choice is None else _tool_choice_to_proto(value.tool_choice),
        response_format=None if value.response_format is None else _response_format_to_proto(value.response_format),
    )


def chat_request_from_proto(pb: chat_pb2.ChatRequest, path: str = "chat") -> ChatRequest:
    """Raises WireError with the path of the first field that cannot be translated."""
    at_most(pb.tools, TOOLS_MAX, join(path, "tools"))
    return ChatRequest(
        messages=messages_from_proto(pb.messages, join(path, "messages")),
        generation=(
            _generation_from_proto(pb.generation, join(path, "generation")) if pb.HasField("generation") else _NO_WISHES
        ),
        tools=tuple(_tool_from_proto(tool) for tool in pb.tools),
        tool_choice=(
            _tool_choice_from_proto(pb.tool_choice, join(path, "tool_choice")) if pb.HasField("tool_choice") else None
        ),
        response_format=(
            _response_format_from_proto(pb.response_format, join(path, "response_format"))
            if pb.HasField("response_format")
            else None
        ),
    )


def usage_to_proto(value: Usage) -> chat_pb2.Usage:
    return chat_pb2.Usage(
        input_tokens=value.input_tokens,
        output_tokens=value.output_tokens,
        cached_input_tokens=value.cached_input_tokens,
        reasoning_tokens=value.reasoning_tokens,
    )


def usage_from_proto(pb: chat_pb2.Usage) -> Usage:
    return Usage(
        input_tokens=pb.input_tokens,
        output_tokens=pb.output_tokens,
        cached_input_tokens=pb.cached_input_tokens,
        reasoning_tokens=pb.reasoning_tokens,
    )


def embedding_to_proto(value: Embedding) -> chat_pb2.Embedding:
    return chat_pb2.Embedding(values=value.values, model=value.model)


def embedding_from_proto(pb: chat_pb2.Embedding) -> Embedding:
    return Embedding(values=pb.values, model=pb.model)

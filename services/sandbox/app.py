"""The sandbox as one ASGI application: the provider in two wire formats, its script and journal, the trace queries."""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from services.sandbox.anthropic_api import AnthropicWire, anthropic_models_body
from services.sandbox.embeddings import EmbeddingMaker, EmbeddingsWire
from services.sandbox.openai_api import OpenAIWire, models_body
from services.sandbox.provider import Endpoint, Provider
from services.sandbox.replay import Replay
from services.sandbox.response import ClientGoneError, read_body
from services.sandbox.rows import Row
from services.sandbox.script import Playback, Script, ScriptError, parse_script
from services.sandbox.traces import TRACES_MAX, TraceStore
from services.sandbox.wire import ApiError, Wire, encode_json

__all__ = ["build_app", "build_trace_app"]

SCRIPT_BYTES_MAX: Final = 16 * 1024 * 1024
"""Bytes of a script that is PUT."""
TRACES_LIMIT_DEFAULT: Final = 20
"""Traces that a query returns unless it says how many, as Jaeger does."""

_MESSAGES_PATH: Final = "/v1/messages"
_FRONT_PAGE: Final = """\
Spillway's sandbox: it stands in for a model provider, and keeps traces where it was told to. There is no page to look
at; programs read and write JSON here (services/sandbox/README.md). A trace in the terminal: spillway ask "..."."""


def build_app(
    rows: Iterable[Row],
    count_tokens: Callable[[str], int],
    *,
    examples_mode: bool = False,
    aliases: Mapping[str, str] = MappingProxyType({}),
    script: Script | None = None,
    traces: TraceStore | None = None,
    clock: Callable[[], float] = time.time,
) -> Starlette:
    """Build the application.

    `rows` are the recorded answers; `count_tokens` counts the tokens of a text; in `examples_mode` a prompt that is
    not among the rows gets a canned answer instead of a 404. With `traces` the store is queried under /api.
    """
    provider = Provider(
        Replay(rows, aliases, by_words=examples_mode),
        count_tokens,
        examples_mode=examples_mode,
        script=script or Script(),
        clock=clock,
    )
    openai, anthropic = OpenAIWire(), AnthropicWire()
    routes = [
        Route("/v1/chat/completions", Endpoint(provider, openai), methods=["POST"]),
        Route(
            "/v1/embeddings",
            Endpoint(provider, EmbeddingsWire(), EmbeddingMaker(count_tokens, clock)),
            methods=["POST"],
        ),
        Route(_MESSAGES_PATH, Endpoint(provider, anthropic), methods=["POST"]),
        *_control_routes(provider),
    ]
    if traces is not None:
        routes += _trace_routes(traces)
    routes.append(_front_page(routes))

    def render(error: ApiError, wire: Wire, headers: Mapping[str, str] | None = None) -> Response:
        request_id = provider.new_request_id()
        headers = {**(headers or {}), wire.request_id_header: request_id}
        return _json(wire.error_body(error, request_id), error.status, headers)

    async def api_error(_: Request, error: Exception) -> Response:
        if not isinstance(error, ApiError):  # registered for nothing else
            raise error
        return render(error, openai)

    async def http_error(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        path = request.url.path
        message = f"Invalid URL or method ({request.method} {path})."
        wire = anthropic if path == _MESSAGES_PATH or path.startswith(f"{_MESSAGES_PATH}/") else openai
        return render(ApiError(error.status_code, message), wire, error.headers)

    return Starlette(routes=routes, exception_handlers={HTTPException: http_error, ApiError: api_error})


def build_trace_app(traces: TraceStore) -> Starlette:
    """Build the application of a trace store alone: nothing in it answers as a model."""

    async def healthz(_: Request) -> Response:
        return _json({"status": "ok"})

    routes = [*_trace_routes(traces), Route("/healthz", healthz, methods=["GET"])]
    return Starlette(routes=[*routes, _front_page(routes)])


def _front_page(routes: list[Route]) -> Route:
    """What a person finds who opens its address in a browser."""
    text = "\n".join((_FRONT_PAGE, "", *(route.path for route in routes), ""))

    async def front_page(_: Request) -> Response:
        return PlainTextResponse(text)

    return Route("/", front_page, methods=["GET"])


def _control_routes(provider: Provider) -> list[Route]:
    async def models(request: Request) -> Response:
        # The two list their models at one path; only Anthropic's callers say a version.
        body = anthropic_models_body if "anthropic-version" in request.headers else models_body
        return _json(body(provider.replay.models))

    async def healthz(_: Request) -> Response:
        return _json({"status": "ok", "prompts": len(provider.replay)})

    async def put_script(request: Request) -> Response:
        try:
            body = await read_body(request.receive, SCRIPT_BYTES_MAX)
            script = parse_script(json.loads(body))
        except ClientGoneError:
            return Response(status_code=400)
        except ScriptError as error:
            raise ApiError(400, str(error), code="invalid_script") from error
        except (ValueError, RecursionError) as error:
            raise ApiError(400, "The script is not valid JSON.", code="invalid_json") from error
        provider.playback = Playback(script)
        return _json({"models": {name: len(steps) for name, steps in script.models.items()}})

    async def get_calls(_: Request) -> Response:
        return _json(provider.journal.body())

    async def delete_calls(_: Request) -> Response:
        provider.journal.clear()
        return Response(status_code=204)

    return [
        Route("/v1/models", models, methods=["GET"]),
        Route("/healthz", healthz, methods=["GET"]),
        Route("/sandbox/script", put_script, methods=["PUT"]),
        Route("/sandbox/calls", get_calls, methods=["GET"]),
        Route("/sandbox/calls", delete_calls, methods=["DELETE"]),
    ]


def _trace_routes(traces: TraceStore) -> list[Route]:
    async def trace(request: Request) -> Response:
        trace_id = request.path_params["trace_id"].lower()
        if not 1 <= len(trace_id) <= 32 or not set(trace_id) <= set("0123456789abcdef"):
            return _jaeger_error(400, "invalid trace id")
        found = traces.trace(trace_id.zfill(32))
        return _jaeger_error(404, "trace not found") if found is None else _jaeger([found])

    async def recent(request: Request) -> Response:
        limit = request.query_params.get("limit", str(TRACES_LIMIT_DEFAULT))
        if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit[:9]) <= TRACES_MAX:
            return _jaeger_error(400, f"limit is not a whole number from 1 to {TRACES_MAX}")
        return _jaeger(traces.recent(request.query_params.get("service", ""), int(limit)))

    async def services(_: Request) -> Response:
        return _jaeger(traces.services())

    return [
        Route("/api/traces/{trace_id}", trace, methods=["GET"]),
        Route("/api/traces", recent, methods=["GET"]),
        Route("/api/services", services, methods=["GET"]),
    ]


def _json(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(encode_json(value), status_code=status, headers=headers, media_type="application/json")


def _jaeger(data: list[dict[str, object]] | list[str]) -> Response:
    return _json({"data": data, "total": len(data), "limit": 0, "offset": 0, "errors": None})


def _jaeger_error(status: int, message: str) -> Response:
    return _json({"data": None, "errors": [{"code": status, "msg": message}]}, status)

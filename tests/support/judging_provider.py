"""A provider whose one model grades what a canary shows it, which takes repeating the random word between the marks."""

from __future__ import annotations

import json
import re
from http.server import BaseHTTPRequestHandler
from typing import Any

from tests.support.loopback_http import LoopbackServer

__all__ = ["JudgingProvider"]

_WORD = re.compile(r'"mark": "([^"]+)"')


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        asked: dict[str, Any] = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        found = _WORD.search(json.dumps(asked["messages"]).replace('\\"', '"'))
        grades = {"mark": found.group(1) if found else "", "first": 8, "second": 8}
        body = json.dumps(
            {
                "id": "g",
                "object": "chat.completion",
                "model": asked["model"],
                "choices": [
                    {
                        "index": 0,
                        "finish_reason": "stop",
                        "message": {"role": "assistant", "content": json.dumps(grades)},
                    }
                ],
                "usage": {"prompt_tokens": 90, "completion_tokens": 9, "total_tokens": 99},
            }
        ).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - named by the base class
        """Not heard."""


class JudgingProvider(LoopbackServer):
    """Speaks OpenAI's chat completions at `base_url`."""

    def __init__(self) -> None:
        super().__init__(_Handler)
        self.base_url = f"{self.url}/v1"

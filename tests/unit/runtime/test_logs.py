"""Log lines are JSON objects without any exception's text. Logging is the process's, so each test is a process."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

HEAD = """
import asyncio, logging
from services.runtime import logs
early = logs.get_logger("early")
logs.configure(service="toy", level="info")
log = logs.get_logger("a.module")
"""


def lines(code: str) -> list[dict[str, Any]]:
    done = subprocess.run([sys.executable, "-c", HEAD + code], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert "the prompt" not in done.stderr
    return [json.loads(line) for line in done.stderr.splitlines()]


def test_a_line_says_when_what_who_and_its_fields() -> None:
    (line,) = lines('log.info("call_failed", reason="OVERLOADED"); log.debug("hidden")')
    assert line.pop("ts").endswith("Z")
    assert line == {
        "level": "info",
        "event": "call_failed",
        "service": "toy",
        "logger": "a.module",
        "reason": "OVERLOADED",
    }


def test_a_logger_made_before_the_set_up_follows_it() -> None:
    (line,) = lines('early.warning("late")')
    assert (line["service"], line["logger"]) == ("toy", "early")


def test_an_exception_is_its_type_its_causes_and_its_place() -> None:
    (line,) = lines("""
def deep():
    try:
        raise KeyError("the prompt")
    except KeyError as error:
        raise ValueError("the prompt") from error
try:
    deep()
except ValueError:
    log.error("defect", exc_info=True)
""")
    assert (line["exception"], line["causes"]) == ("ValueError", ["KeyError"])
    assert line["where"][-1].endswith(" deep")


def test_libraries_speak_json_too_from_warnings_on() -> None:
    found = lines("""
library = logging.getLogger("some.library")
library.info("quiet")
library.warning("loud %s", 1)
try:
    raise ValueError("the prompt")
except ValueError:
    library.exception("failed")
""")
    assert [(line["event"], line["logger"]) for line in found] == [
        ("loud 1", "some.library"),
        ("failed", "some.library"),
    ]
    assert found[1]["exception"] == "ValueError"


def test_what_no_task_awaited_is_logged_without_its_text() -> None:
    found = lines("""
import gc
async def main():
    logs.report_loop_exceptions(asyncio.get_running_loop())
    async def defect():
        raise ValueError("the prompt")
    task = asyncio.create_task(defect())
    await asyncio.sleep(0)
    del task
    gc.collect()
asyncio.run(main())
""")
    assert [(line["event"], line["exception"]) for line in found] == [("loop_exception", "ValueError")]

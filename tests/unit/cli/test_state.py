"""The state file is believed only while its suite lives."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spillway.cli.asking import SuiteAddress, find_suite
from spillway.cli.state import AlreadyRunningError, ServiceState, StateFile, SuiteState, read_state
from spillway.client import DEFAULT_TARGET

FILES = ("ca", "c", "k")
STATE = SuiteState(7, "127.0.0.1:7", "http://127.0.0.1:8", "x.yaml", (ServiceState("cache", 9, "127.0.0.1:9"),), FILES)
OWNER = """
import sys, time
from pathlib import Path
from tests.unit.cli.test_state import STATE
from spillway.cli.state import StateFile
with StateFile(Path(sys.argv[1])) as file:
    file.write(STATE)
    print("written", flush=True)
    time.sleep(60)
"""


def test_a_living_suite_is_found_and_a_finished_one_is_not(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    with StateFile(tmp_path) as file:
        file.write(STATE)
        assert read_state(tmp_path) == STATE
    assert read_state(tmp_path) is None
    assert not (tmp_path / ".spillway" / "up.json").exists()


def test_two_suites_cannot_run_from_one_directory(tmp_path: Path) -> None:
    with StateFile(tmp_path), pytest.raises(AlreadyRunningError), StateFile(tmp_path):
        pass


def test_what_a_killed_suite_left_behind_is_not_believed(tmp_path: Path) -> None:
    repository = Path(__file__).parents[3]
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, cwd=repository
    ) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        assert read_state(tmp_path) == STATE
        owner.send_signal(signal.SIGKILL)
        owner.wait()
    assert (tmp_path / ".spillway" / "up.json").exists()
    assert read_state(tmp_path) is None
    with StateFile(tmp_path):
        pass


def test_commands_find_the_suite_of_the_directory(tmp_path: Path) -> None:
    assert find_suite("", "", {}, tmp_path) == SuiteAddress(DEFAULT_TARGET, "")
    with StateFile(tmp_path) as file:
        file.write(STATE)
        assert find_suite("", "", {}, tmp_path) == SuiteAddress(STATE.target, STATE.trace_query_url, FILES)
        assert find_suite("other:1", "", {}, tmp_path) == SuiteAddress("other:1", "")
        assert find_suite("", "", {"SPILLWAY_TARGET": "env:1"}, tmp_path) == SuiteAddress("env:1", "")
        assert find_suite("", "http://jaeger", {}, tmp_path) == SuiteAddress(
            STATE.target, "http://jaeger", ("ca", "c", "k")
        )

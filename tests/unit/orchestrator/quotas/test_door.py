"""Keys at the door: nothing in a request can change whose it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest

from services.orchestrator.doorkeeper import Caller, Doorkeeper
from services.orchestrator.quotas.keys import Keys
from services.runtime.clock import FakeClock
from services.runtime.errors import PermissionDenied, Unauthenticated
from spillway.api_keys import render_keys
from tests.unit.orchestrator.quotas.keyring import make


class Context:
    def __init__(self, *metadata: tuple[str, str]) -> None:
        self._metadata = metadata

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return self._metadata


def test_a_request_that_names_another_tenant_than_its_key_s_is_denied(tmp_path: Path) -> None:
    entry, key = make()
    path = tmp_path / "keys.json"
    path.write_text(render_keys([entry]))
    door = Doorkeeper(Keys(path, FakeClock()))
    context = cast("Any", Context(("authorization", f"Bearer {key}"), ("tenant", "other"), ("x-tenant", "other")))
    assert door.admit(context, "complete", "") == Caller("acme", entry.id)
    assert door.admit(context, "complete", "acme") == Caller("acme", entry.id)
    for named in ("other", "ACME", "acme ", "*"):
        with pytest.raises(PermissionDenied):
            door.admit(context, "complete", named)
    with pytest.raises(PermissionDenied):
        door.admit(context, "jobs", "")
    with pytest.raises(Unauthenticated):
        door.admit(cast("Any", Context()), "complete", "acme")

"""A world for each test."""

from __future__ import annotations

import pytest

from tests.unit.orchestrator.jobs.world import World


@pytest.fixture
def world() -> World:
    return World()

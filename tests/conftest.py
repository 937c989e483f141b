"""Fixtures for every kind of test."""

from tests.support.postgres import postgres_server, postgres_url
from tests.support.redis_server import redis_server

__all__ = ["postgres_server", "postgres_url", "redis_server"]

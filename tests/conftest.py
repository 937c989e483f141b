"""Fixtures for every kind of test."""

from tests.support.redis_server import redis_server

__all__ = ["redis_server"]

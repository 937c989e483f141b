"""Tests here run against a redis-server of their own."""

from tests.support.redis_server import redis_server

__all__ = ["redis_server"]

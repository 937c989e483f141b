"""Redis as it is run for high availability, small and on loopback: a primary that sentinels watch, and a cluster."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import redis

from tests.support.processes import wait_until
from tests.support.redis_server import RedisServer, free_port

__all__ = ["Cluster", "SentinelSite", "cluster", "command", "sentinel_site"]

MASTER = "cache-primary"
WELL_MS = 600_000
"""After this silence the sentinel would promote the replica: never of itself. With a short time a busy machine makes it
promote while all is well, and what the old primary is given meanwhile is lost, as a failover loses it."""

DOWN_AFTER_MS = 300
SLOTS = 16_384


class SentinelSite:
    """A primary, a replica of it, and one sentinel that promotes the replica when the primary is gone."""

    def __init__(self, directory: Path) -> None:
        self.primary = RedisServer(_made(directory / "primary"))
        self.primary.start()
        self.replica = RedisServer(_made(directory / "replica"), "--replicaof", "127.0.0.1", str(self.primary.port))
        self.replica.start()
        with self.replica.client() as client:
            wait_until(lambda: client.info("replication")["master_link_status"] == "up", what="the replica follows")
        self.port = free_port()
        config = directory / "sentinel.conf"
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {directory}\n"
            f"sentinel monitor {MASTER} 127.0.0.1 {self.primary.port} 1\n"
            f"sentinel down-after-milliseconds {MASTER} {WELL_MS}\n"
            f"sentinel failover-timeout {MASTER} 2000\n"
        )
        program = shutil.which("redis-server")
        assert program is not None
        self._sentinel = subprocess.Popen([program, str(config), "--sentinel"], stdout=subprocess.DEVNULL)
        with self.sentinel() as client:
            wait_until(lambda: _sees_replica(client), what="the sentinel knows the replica")

    @property
    def url(self) -> str:
        """With a sentinel that is not there named first: the next one is asked."""
        return f"redis+sentinel://127.0.0.1:{free_port()},127.0.0.1:{self.port}/{MASTER}"

    def sentinel(self) -> redis.Redis:
        return redis.Redis(port=self.port, socket_timeout=10, protocol=2)

    def lose_primary(self) -> None:
        """kill -9 of the primary; the sentinel promotes the replica."""
        self.primary.kill()
        with self.sentinel() as client:
            command(client, "SENTINEL", "SET", MASTER, "down-after-milliseconds", DOWN_AFTER_MS)

    def fail_over(self) -> None:
        """The sentinel promotes the replica, and demotes the primary when it hears of it."""
        with self.sentinel() as client:
            wait_until(lambda: _promotes(client), what="the sentinel finds the replica fit")

    def stop(self) -> None:
        self._sentinel.kill()
        self._sentinel.wait()
        self.replica.stop()
        self.primary.stop()


class Cluster:
    """Three primaries that share the slots, and a replica of the first."""

    def __init__(self, directory: Path) -> None:
        self.nodes = [RedisServer(_made(directory / f"node{number}"), *_cluster_options()) for number in range(4)]
        for node in self.nodes:
            node.start()
        clients = [node.client() for node in self.nodes]
        for number, client in enumerate(clients[:3]):
            first, last = SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1
            command(client, "CLUSTER", "ADDSLOTSRANGE", first, last)
        for node in self.nodes[1:]:
            bus = command(node.client(), "CONFIG", "GET", "cluster-port")[1].decode()
            command(clients[0], "CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        wait_until(lambda: all(_knows(client, 4) for client in clients), what="the nodes know each other")
        first_id = command(clients[0], "CLUSTER", "MYID")
        command(clients[3], "CLUSTER", "REPLICATE", first_id)
        wait_until(lambda: all(_is_ok(client) for client in clients), what="the cluster is complete")
        wait_until(
            lambda: clients[3].info("replication").get("master_link_status") == "up", what="the replica is in step"
        )
        for client in clients:
            client.close()

    @property
    def url(self) -> str:
        return f"redis+cluster://127.0.0.1:{self.nodes[1].port},127.0.0.1:{self.nodes[2].port}"

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()


@contextmanager
def sentinel_site(directory: Path) -> Iterator[SentinelSite]:
    """A running one, inside the block."""
    site = SentinelSite(directory)
    try:
        yield site
    finally:
        site.stop()


@contextmanager
def cluster(directory: Path) -> Iterator[Cluster]:
    """A running one, inside the block."""
    made = Cluster(directory)
    try:
        yield made
    finally:
        made.stop()


def _made(directory: Path) -> Path:
    directory.mkdir(parents=True)
    return directory


def _cluster_options() -> list[str]:
    return [
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        str(free_port()),
        "--cluster-node-timeout",
        "2000",
        "--cluster-config-file",
        "nodes.conf",
    ]


def command(client: redis.Redis, *words: str | int) -> Any:
    """The reply to a command that redis-py has no method for."""
    return cast("Any", client).execute_command(*words)


def _promotes(client: redis.Redis) -> bool:
    try:
        return bool(command(client, "SENTINEL", "FAILOVER", MASTER))
    except redis.ResponseError:  # it has not heard enough of the replica yet
        return False


def _sees_replica(client: redis.Redis) -> bool:
    with suppress(redis.ConnectionError):
        return bool(command(client, "SENTINEL", "REPLICAS", MASTER))
    return False


def _knows(client: redis.Redis, count: int) -> bool:
    nodes = command(client, "CLUSTER", "NODES")
    text = nodes.decode() if isinstance(nodes, bytes) else str(nodes)
    return text.count("connected") >= count and "handshake" not in text


def _is_ok(client: redis.Redis) -> bool:
    info = command(client, "CLUSTER", "INFO")
    return "cluster_state:ok" in (info.decode() if isinstance(info, bytes) else str(info))

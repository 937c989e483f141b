"""Jobs that failed, for the operator: `python -m services.orchestrator.jobs.dead_letters [--config FILE] [--count N]`.

One JSON object a line, the latest first: the job as in the proto's JSON form, never what was asked. Reads the Redis
that the configuration names, and changes nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from google.protobuf.json_format import MessageToDict

from services.orchestrator.guarded_redis import connect
from services.orchestrator.jobs.job_store import DEAD_MAX, JobStoreError
from services.orchestrator.jobs.redis_store import RedisJobStore
from services.runtime.clock import SystemClock
from services.runtime.config import ConfigError, SecretError, load, read_secret
from spillway.routing import Job
from spillway.settings import Orchestrator
from spillway.wire import job_to_proto

__all__ = ["main"]

TIMEOUT_S: Final = 5.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints them; the exit code."""
    parser = argparse.ArgumentParser(prog="spillway job dead", description="Jobs that failed, the latest first.")
    parser.add_argument("--config", type=Path, help="spillway.yaml; default: as every service finds it.")
    parser.add_argument("--count", type=int, default=100, help="At most so many.")
    options = parser.parse_args(arguments)
    try:
        settings = load(options.config).settings.orchestrator
        if not settings.redis_url:
            print("without orchestrator.redis_url jobs are in the orchestrator's memory alone", file=sys.stderr)
            return 1
        jobs = asyncio.run(_read(settings, max(1, min(options.count, DEAD_MAX))))
    except (ConfigError, SecretError) as error:
        print(error, file=sys.stderr)
        return 1
    except JobStoreError as error:
        print(f"Redis does not answer: {error}", file=sys.stderr)
        return 1
    for job in jobs:
        print(json.dumps(MessageToDict(job_to_proto(job), preserving_proto_field_name=True), ensure_ascii=False))
    return 0


async def _read(settings: Orchestrator, count: int) -> Sequence[Job]:
    client = connect(settings.redis_url, password=read_secret(settings.redis_password_env, ""), timeout_s=TIMEOUT_S)
    try:
        return await RedisJobStore(client, timeout_s=TIMEOUT_S, clock=SystemClock()).dead_letters(count)
    finally:
        await client.aclose()


if __name__ == "__main__":
    sys.exit(main())

"""What TLS adds to a call between two services: CPU of both sides, over connections that there are.

    python -m bench.tls [--calls 3000] [--runs 5]

One server in a process of its own, 8 calls at once through `open_channel`, 1 KB requests. Plain and TLS take turns; the
median of the runs is printed with their range.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import tempfile
import time
from pathlib import Path

import yaml

from bench.processes import cpu_s
from services.runtime.channel import open_channel
from services.runtime.tls import open_certificates
from spillway.v1 import executor_pb2_grpc
from tests.support.certificates import CertificateFolders
from tests.support.processes import Process
from tests.support.toy import NAME, command, settings

AT_ONCE = 8
REQUEST_CHARS = 1_000

Figures = tuple[float, float, float]
"""CPU milliseconds per call of the caller and of the server, calls a second."""


async def measured(folder: Path, *, calls: int, secure: bool) -> Figures:
    folders = CertificateFolders(folder / "certs").make("toy", "caller")
    tls = {"tls": folders.settings} if secure else {}
    loaded = settings(folder, yaml.safe_dump({"limits": {"drain_s": 0, "grace_s": 1}, **tls}))
    arguments = ["--config", str(folder / "spillway.yaml"), "--listen", "127.0.0.1:0"]
    server = Process("tests.support.toy", arguments, {}, folder / "toy.log")
    try:
        address = (await asyncio.to_thread(server.ready))["listen"]
        certificates = open_certificates(loaded.settings.tls, "caller")
        async with open_channel(
            address, service_name=NAME, message_bytes_max=1_000_000, certificates=certificates
        ) as channel:
            stub = executor_pb2_grpc.ExecutorServiceStub(channel)
            request = command("!ok" + "x" * REQUEST_CHARS)

            async def call(count: int) -> None:
                for _ in range(count):
                    await stub.Execute(request, timeout=20)

            await asyncio.gather(*(call(25) for _ in range(AT_ONCE)))
            before = cpu_s(os.getpid()), cpu_s(server.pid), time.perf_counter()
            await asyncio.gather(*(call(calls // AT_ONCE) for _ in range(AT_ONCE)))
            after = cpu_s(os.getpid()), cpu_s(server.pid), time.perf_counter()
    finally:
        server.stop()
    caller_s, server_s, wall_s = (end - begin for begin, end in zip(before, after, strict=True))
    return caller_s / calls * 1e3, server_s / calls * 1e3, calls / wall_s


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.tls", description="What TLS adds to a call.")
    parser.add_argument("--calls", type=int, default=3_000)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    figures: dict[bool, list[Figures]] = {False: [], True: []}
    with tempfile.TemporaryDirectory() as folder:
        for run in range(options.runs):
            for secure in (False, True) if run % 2 else (True, False):
                place = Path(tempfile.mkdtemp(dir=folder))
                figures[secure].append(await measured(place, calls=options.calls, secure=secure))
    for secure, runs in figures.items():
        said = []
        for name, values in zip(("caller ms", "server ms", "calls/s"), zip(*runs, strict=True), strict=True):
            said.append(f"{name} {statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})")
        print("TLS  " if secure else "plain", "  ".join(said))


if __name__ == "__main__":
    asyncio.run(main())

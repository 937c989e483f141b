"""A Prometheus of a test's own, over the processes that it is given."""

from __future__ import annotations

import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import yaml

from tests.support.processes import wait_until

__all__ = ["PrometheusServer"]

WORDS_S = 20


class PrometheusServer:
    """Scrapes `targets` (job -> host:port) twice a second, by the rules of `rules`. On loopback, for one test."""

    def __init__(self, folder: Path, targets: Mapping[str, str], rules: Sequence[Path]) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.address = f"127.0.0.1:{probe.getsockname()[1]}"
        config = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
            "rule_files": [str(rule) for rule in rules],
            "scrape_configs": [
                {"job_name": job, "static_configs": [{"targets": [target]}]} for job, target in targets.items()
            ],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        self._arguments = [
            shutil.which("prometheus") or "prometheus",
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'tsdb'}",
            f"--web.listen-address={self.address}",
            "--log.level=warn",
        ]
        self._log = folder / "prometheus.log"
        self._http = httpx.Client(base_url=f"http://{self.address}", timeout=WORDS_S, trust_env=False)

    def __enter__(self) -> Self:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._arguments, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        try:
            wait_until(self._is_ready, what="Prometheus is ready")
        except BaseException:
            self._process.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._http.close()
        self._process.terminate()
        try:
            self._process.wait(WORDS_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def query(self, query: str) -> list[dict[str, Any]]:
        """The series of an instant query. Raises AssertionError when it is refused."""
        answer = self._http.post("/api/v1/query", data={"query": query}).json()
        assert answer["status"] == "success", (query, answer)
        result = answer["data"]["result"]
        return result if isinstance(result, list) else [result]

    def rules(self) -> list[dict[str, Any]]:
        """Every rule, with its health."""
        groups = self._http.get("/api/v1/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, self._log.read_text()
        try:
            return self._http.get("/-/ready").status_code == 200
        except httpx.TransportError:
            return False

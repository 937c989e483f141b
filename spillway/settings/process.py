"""What every process needs: its address, limits, telemetry, log; and the front."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from spillway.settings.section import Ratio, Seconds, Section, VariableName

__all__ = ["Limits", "Log", "Orchestrator", "ServiceAddress", "Services", "Telemetry"]


class Orchestrator(Section):
    """The front: time limits of the optional hops, and the decision log."""

    deadline_s: Seconds = Field(120.0, description="For callers that set none, and the most that any may ask for.")
    cache_timeout_s: Seconds = Field(0.25, description="A cache that takes longer is a miss.")
    classifier_timeout_s: Seconds = Field(1.0, description="A classifier that takes longer is done without.")
    background_tasks_max: int = Field(1024, ge=1, description="Cache stores and records under way; more are dropped.")
    decision_log: str = Field("", description="The file for decision records, JSON lines; empty means none.")
    prompt_head_chars: int = Field(0, ge=0, le=200, description="How much of a prompt a record may keep.")
    keys_file: str = Field(
        "", description="API keys, of `spillway keys`. With it every call needs one, and the key names the tenant."
    )
    idempotency_window_s: Seconds = Field(
        3_600.0, description="A request id seen again within it gets its answer again."
    )
    redis_url: str = Field(
        "",
        description="What replicas share: quotas, idempotency, jobs, users' first messages. redis://, rediss:// or "
        "redis+sentinel://host,host/master. Empty: nothing is shared.",
    )
    redis_password_env: VariableName = ""
    redis_timeout_s: Seconds = Field(0.1, description="A Redis that takes longer is done without.")


class Limits(Section):
    """Bounds of every gRPC server."""

    message_bytes_max: int = Field(8_388_608, ge=1_024, le=104_857_600)
    metadata_bytes_max: int = Field(16_384, ge=1_024, le=1_048_576)
    concurrent_rpcs_max: int = Field(256, ge=1, le=100_000, description="More are refused at once, to be retried.")
    drain_s: float = Field(1.0, ge=0, le=600, description="After SIGTERM: time for clients to see NOT_SERVING.")
    grace_s: float = Field(20.0, ge=0, le=3_600, description="After the drain: time for calls under way.")
    connection_age_s: float = Field(
        300.0, ge=1, le=86_400, description="Connections are renewed so often, so that new replicas get their share."
    )


class ServiceAddress(Section):
    """Where a service listens, and where the others find it."""

    listen: str = Field(min_length=1, description="host:port, or unix:/path.")
    target: str = Field(min_length=1, description="A gRPC target, e.g. dns:///executor:50054.")
    server_name: str = Field(
        "", max_length=253, description="With tls: the name its certificate has to have. Default: the target's host."
    )


def _local(port: int) -> ServiceAddress:
    return ServiceAddress(listen=f"127.0.0.1:{port}", target=f"127.0.0.1:{port}")


class Services(Section):
    """Addresses. One that is left out comes from $SPILLWAY_CACHE_LISTEN, $SPILLWAY_CACHE_TARGET and so on, if set."""

    orchestrator: ServiceAddress = _local(50051)
    classifier: ServiceAddress = _local(50052)
    cache: ServiceAddress = _local(50053)
    executor: ServiceAddress = _local(50054)
    ledger: ServiceAddress = _local(50055)


class Telemetry(Section):
    """Where traces and metrics go."""

    otlp_endpoint: str = Field("", description="An OTLP gRPC endpoint, e.g. http://jaeger:4317; empty means no export.")
    prometheus_listen: str = Field(
        "",
        pattern=r"^$|^[^\s/]+:\d{1,5}$",
        description="host:port where Prometheus may scrape this process, without TLS; port 0: a free one. Empty: no.",
    )
    query_url: str = Field("", description="Jaeger's query API, for `spillway ask` to show traces.")
    sample_ratio: Ratio = Field(1.0, description="Share of new traces kept; a caller's decision is followed.")
    export_interval_s: Seconds = Field(1.0, description="At most so long after its end a span leaves.")


class Log(Section):
    """What is written to standard error, as JSON lines."""

    level: Literal["debug", "info", "warning", "error"] = "info"

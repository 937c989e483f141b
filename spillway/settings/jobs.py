"""Long work: how many at once, how long, how often, and whom to tell."""

from __future__ import annotations

from pydantic import Field

from spillway.settings.section import Seconds, Section, VariableName

__all__ = ["Jobs"]


class Jobs(Section):
    """Shared by replicas through orchestrator.redis_url; without it they are lost with the process."""

    workers: int = Field(4, ge=0, le=1_000, description="Jobs under way per orchestrator; 0: this one works on none.")
    queued_max: int = Field(10_000, ge=1, le=1_000_000, description="Of all tenants; more are refused.")
    timeout_s: Seconds = Field(3_600.0, description="From submission to end, when a job names none.")
    tries_max: int = Field(5, ge=1, le=100, description="After so many failed or lost tries a job has failed.")
    result_ttl_s: float = Field(86_400.0, gt=0, le=2_592_000, description="How long a job that has ended is kept.")
    webhook_secret_env: VariableName = Field(
        "", description='The variable with the secret that signs webhooks, "whsec_" and Base64 of 24 to 64 bytes.'
    )
    webhook_secret_file: str = Field("", description="The file with it; wins over webhook_secret_env.")
    webhook_private_hosts: list[str] = Field(
        [], max_length=100, description="Hosts or networks (CIDR) that webhooks may name although they are not public."
    )

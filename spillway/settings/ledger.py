"""Where decisions, feedback and grades are kept."""

from __future__ import annotations

from pydantic import Field

from spillway.settings.section import Section, VariableName

__all__ = ["Ledger"]


class Ledger(Section):
    """The SQL database behind the ledger service."""

    enabled: bool = Field(True, description="Whether orchestrators send decisions to services.ledger.")
    database_url: str = Field(
        "sqlite:///ledger.sqlite",
        pattern=r"^(sqlite|postgresql)(\+[a-z]+)?://",
        description="sqlite:///FILE, or postgresql://user@host/name; a password comes from database_password_env.",
    )
    database_password_env: VariableName = ""
    retention_days: int = Field(90, ge=1, le=3_650, description="Older decisions are deleted, with all about them.")
    queued_max: int = Field(10_000, ge=1, le=1_000_000, description="Per orchestrator; more are dropped and counted.")

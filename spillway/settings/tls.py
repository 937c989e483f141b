"""TLS between the services: files of certificates, and who may call whom."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from spillway.settings.section import Section

__all__ = ["CallerName", "ServiceName", "Tls"]

ServiceName = Literal["orchestrator", "classifier", "cache", "executor", "ledger"]
CallerName = Annotated[str, Field(pattern=r"^[^\s*,]{1,255}$", description="Of a certificate: DNS, or a URI with ://.")]


class Tls(Section):
    """Certificates of every gRPC connection, both ends. Without files everything travels in the clear.

    In the paths "{service}" stands for the name of the process that reads them, e.g. "executor".
    """

    cert_file: str = Field("", description="PEM: the process's own certificate, then those that link it to the CA.")
    key_file: str = Field("", description="PEM: its key, RSA or EC, not encrypted.")
    ca_file: str = Field("", description="PEM: whose certificates are believed; several while one follows another.")
    require_client_certificate: list[ServiceName] = Field(
        ["orchestrator", "classifier", "cache", "executor", "ledger"],
        description="Services that let nobody in who has no certificate of ca_file.",
    )
    callers: dict[ServiceName, Annotated[list[CallerName], Field(min_length=1, max_length=100)]] = Field(
        {},
        description="Whose certificates a service admits, by a subject alternative name (DNS or URI) that is the same "
        "in every letter. A service that does not stand here admits every certificate of ca_file.",
    )
    health_listen: str = Field(
        "", description="host:port for health checks alone, without TLS: the kubelet's probes speak none. Empty: none."
    )

    @property
    def is_on(self) -> bool:
        """Whether connections are TLS."""
        return bool(self.cert_file)

    @model_validator(mode="after")
    def _whole(self) -> Tls:
        files = (self.cert_file, self.key_file, self.ca_file)
        if any(files) and not all(files):
            raise ValueError("needs cert_file, key_file and ca_file, or none of them")
        if self.callers and not self.is_on:
            raise ValueError("callers are known by their certificates: set cert_file, key_file and ca_file")
        for service in self.callers:
            if service not in self.require_client_certificate:
                raise ValueError(f"callers.{service} needs {service} in require_client_certificate")
        return self

"""Certificates for tests, as they lie in a deployment: a folder for each process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc

from services.runtime.dev_certs import Authority, Issued, write

__all__ = ["LOCAL", "CertificateFolders", "credentials_of"]

LOCAL = ("localhost", "127.0.0.1")


class CertificateFolders:
    """FOLDER/NAME/{tls.crt, tls.key, ca.crt} of one authority, which can be followed by another."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = Authority.create("first")

    def issue(self, name: str, *, names: tuple[str, ...] = (), authority: Authority | None = None) -> Issued:
        """A new certificate in the folder of `name`, for the DNS name `name` and this machine unless `names` say so."""
        issued = (authority or self.authority).issue(*(names or (name, *LOCAL, f"spiffe://spillway/{name}")))
        self.put(name, issued)
        return issued

    def put(self, name: str, issued: Issued) -> None:
        own = self.folder / name
        own.mkdir(parents=True, exist_ok=True)
        write(own / "tls.crt", issued.certificate)
        write(own / "tls.key", issued.key)

    def trust(self, name: str, *authorities: Authority) -> None:
        """Whom the process `name` believes; without any the one there is."""
        own = self.folder / name
        own.mkdir(parents=True, exist_ok=True)
        write(own / "ca.crt", b"".join(each.pem.certificate for each in authorities or (self.authority,)))

    def make(self, *names: str) -> CertificateFolders:
        for name in names:
            self.issue(name)
            self.trust(name)
        return self

    @property
    def settings(self) -> dict[str, Any]:
        """The section `tls` for all of them."""
        own = self.folder / "{service}"
        return {"cert_file": str(own / "tls.crt"), "key_file": str(own / "tls.key"), "ca_file": str(own / "ca.crt")}

    def credentials(self, name: str) -> grpc.ChannelCredentials:
        """Of a caller with what is in the folder now."""
        own = self.folder / name
        return grpc.ssl_channel_credentials(
            (own / "ca.crt").read_bytes(), (own / "tls.key").read_bytes(), (own / "tls.crt").read_bytes()
        )


def credentials_of(issued: Issued | None, *trusted: Authority) -> grpc.ChannelCredentials:
    """Of a caller with this certificate, or none."""
    authorities = b"".join(each.pem.certificate for each in trusted)
    if issued is None:
        return grpc.ssl_channel_credentials(authorities)
    return grpc.ssl_channel_credentials(authorities, issued.key, issued.certificate)

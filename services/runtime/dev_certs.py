"""Certificates for development and tests: a small authority on this machine, and one certificate per service.

Promises: keys are EC P-256, readable by their owner alone; every file is exchanged whole (written beside, renamed
over). For production use an authority that keeps its key elsewhere, such as cert-manager's (docs/security.md).
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["CLIENT", "DAYS", "SERVICES", "Authority", "Issued", "make", "write"]

SERVICES: Final = ("orchestrator", "classifier", "cache", "executor", "ledger")
CLIENT: Final = "client"
"""The name of a certificate for callers of the orchestrator."""
DAYS: Final = 30.0
_CA_DAYS: Final = 3_650.0
_SKEW: Final = dt.timedelta(minutes=5)
_LOCAL: Final = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key, as PEM."""

    certificate: bytes
    key: bytes


class Authority:
    """Who signs. `create` a new one, or `load` one that was written."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self._certificate = certificate
        self._key = key

    @classmethod
    def create(cls, name: str = "Spillway development CA") -> Authority:
        """An authority of its own, for ten years."""
        key = ec.generate_private_key(ec.SECP256R1())
        called = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _begin(called, called, key.public_key(), _CA_DAYS)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
        return cls(builder.sign(key, hashes.SHA256()), key)

    @classmethod
    def load(cls, certificate: bytes, key: bytes) -> Authority:
        """Raises ValueError for what is no authority of ours."""
        loaded = serialization.load_pem_private_key(key, None)
        if not isinstance(loaded, ec.EllipticCurvePrivateKey):
            raise ValueError("the key of the authority is no EC key")
        return cls(x509.load_pem_x509_certificate(certificate), loaded)

    @property
    def pem(self) -> Issued:
        return Issued(self._certificate.public_bytes(serialization.Encoding.PEM), _key_pem(self._key))

    def issue(self, *names: str, days: float = DAYS) -> Issued:
        """For both ends of a connection. `names` are DNS names, IP addresses, and URIs (with "://").

        With negative `days` it has expired already.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        called = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        builder = _begin(called, self._certificate.subject, key.public_key(), days)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
        both = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.ExtendedKeyUsage(both), critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName(map(_alternative, names)), critical=False)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        builder = builder.add_extension(issuer, critical=False)
        signed = builder.sign(self._key, hashes.SHA256())
        return Issued(signed.public_bytes(serialization.Encoding.PEM), _key_pem(key))


def make(folder: Path, *, days: float = DAYS) -> list[Path]:
    """In `folder` ca.crt and ca.key, made when they are not there, and for each service a folder with new files.

    SERVICE/tls.crt is good for the DNS names SERVICE and localhost, for 127.0.0.1 and ::1, and for
    spiffe://spillway/SERVICE. Returns the folders. Raises OSError, and ValueError for a ca.key that is not ours.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place, key_place = folder / "ca.crt", folder / "ca.key"
    if key_place.exists():
        authority = Authority.load(place.read_bytes(), key_place.read_bytes())
    else:
        authority = Authority.create()
        write(key_place, authority.pem.key)
        write(place, authority.pem.certificate)
    made = []
    for service in (*SERVICES, CLIENT):
        issued = authority.issue(service, *_LOCAL, f"spiffe://spillway/{service}", days=days)
        own = folder / service
        own.mkdir(exist_ok=True)
        write(own / "tls.key", issued.key)
        write(own / "tls.crt", issued.certificate)
        write(own / "ca.crt", authority.pem.certificate)
        made.append(own)
    return made


def write(path: Path, content: bytes) -> None:
    """Exchanges the file at once; its owner alone can read it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _begin(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, days: float
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    end = now + dt.timedelta(days=days)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(min(now, end) - _SKEW).not_valid_after(end)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(name: str) -> x509.GeneralName:
    if "://" in name:
        return x509.UniformResourceIdentifier(name)
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )

"""An https server for one name, with an authority of its own; answers as it is told and keeps what it got."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

__all__ = ["Received", "Receiver", "receiver"]

HEAD_BYTES_MAX = 65_536


@dataclass(frozen=True, slots=True)
class Received:
    """One request."""

    target: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """`answers` are heads, the last one for all that follow; None says nothing. `trust` is for the one who sends."""

    port: int = 0
    trust: ssl.SSLContext = field(default_factory=lambda: ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))
    answers: list[str | None] = field(default_factory=lambda: ["HTTP/1.1 204 No Content\r\n\r\n"])
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    got_one: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", "0")))
            self.received.append(Received(first.split(" ")[1], headers, body))
            self.got_one.set()
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if answer is None:
                await reader.read()
                return
            writer.write(answer.encode("latin-1"))
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def receiver(directory: Path, name: str = "") -> AsyncIterator[Receiver]:
    """With a certificate for `name`; without one it speaks plain http."""
    made = Receiver()
    tls: ssl.SSLContext | None = None
    if name:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority = _certify(directory, name)
        tls.load_cert_chain(directory / "server.pem")
        made.trust.load_verify_locations(cadata=authority)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=tls, limit=HEAD_BYTES_MAX)
    made.port = server.sockets[0].getsockname()[1]
    async with server:
        yield made


def _certify(directory: Path, name: str) -> str:
    """Writes server.pem; the PEM of who signed it."""
    now = dt.datetime.now(dt.UTC)
    ca_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test authority")])
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    try:
        names: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(name))]
    except ValueError:
        names = [x509.DNSName(name)]

    def certificate(subject: x509.Name, public_key: ec.EllipticCurvePublicKey, *, is_ca: bool) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        )
        if not is_ca:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(ca_key, hashes.SHA256())

    authority = certificate(ca_name, ca_key.public_key(), is_ca=True)
    leaf = certificate(subject, key.public_key(), is_ca=False)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / "server.pem").write_bytes(private + leaf.public_bytes(serialization.Encoding.PEM))
    return authority.public_bytes(serialization.Encoding.PEM).decode()

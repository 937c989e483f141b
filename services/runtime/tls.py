"""The certificates of a process: read from files, followed while it runs, and what gRPC is given of them.

Promises: files are looked at every `POLL_S`, by content. Those that belong together (the key is the certificate's,
nothing has expired) are taken over at once for every connection that begins from then on; connections that there are go
on. Half-written, foreign and expired ones are refused: logged once, shown in a metric, looked at again, and meanwhile
the old ones stay. Nothing of a key is ever logged.

    python -m services.runtime.tls dev-certs DIR     certificates for development (services.runtime.dev_certs)
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

import grpc
from opentelemetry.metrics import CallbackOptions, Meter, Observation

from services.runtime import telemetry
from services.runtime.clock import Clock, SystemClock
from services.runtime.config import SecretError
from services.runtime.logs import describe_exception, get_logger
from services.runtime.tasks import end_tasks
from spillway.settings import Tls

__all__ = ["POLL_S", "Certificates", "Pems", "open_certificates"]

POLL_S: Final = 1.0
SETTLE_S: Final = 0.2
"""Changed files are read once more after this: who writes them one by one may not be done."""
FILE_BYTES_MAX: Final = 1_048_576
_SERVICE: Final = "{service}"

Raw = tuple[bytes, bytes, bytes]


@dataclass(frozen=True, slots=True)
class Pems:
    """What the files say. `expires_unix_s` is the end of what expires first in the chain that is shown to others."""

    certificate: bytes
    key: bytes = field(repr=False)
    authorities: bytes
    expires_unix_s: float


@dataclass(frozen=True, slots=True)
class _Places:
    certificate: Path
    key: Path
    authorities: Path

    @classmethod
    def of(cls, settings: Tls, service: str) -> _Places:
        named = (settings.cert_file, settings.key_file, settings.ca_file)
        return cls(*(Path(name.replace(_SERVICE, service)) for name in named))

    def read(self) -> Raw:
        return _read(self.certificate), _read(self.key), _read(self.authorities)


def open_certificates(settings: Tls, service: str) -> Certificates | None:
    """The certificates of the process `service`; None where TLS is off. Raises SecretError."""
    if not settings.is_on:
        return None
    return Certificates(settings, service, clock=SystemClock(), meter=telemetry.meter())


class Certificates:
    """One per process, for one event loop. Reads the files when it is made: raises SecretError.

    `start` begins to follow them, `close` ends it.
    """

    def __init__(self, settings: Tls, service: str, *, clock: Clock, meter: Meter) -> None:
        self._places = _Places.of(settings, service)
        self._clock = clock
        self._followers: dict[object, Callable[[Pems], None]] = {}
        self._poll: asyncio.Task[None] | None = None
        self._log = get_logger(__name__)
        self._reloads = meter.create_counter(
            "spillway.tls.reloads", unit="{reload}", description="Changed certificate files, by what became of them."
        )
        for outcome in ("applied", "refused"):
            self._reloads.add(0, {"outcome": outcome})
        meter.create_observable_gauge(
            "spillway.tls.refused", [self._refused], description="1 while the files as they are now are refused."
        )
        self._seen: Raw | str = self._places.read()
        self._refusal = ""
        self._pems = _checked(self._places, self._seen, clock.unix())
        telemetry.certificate_expires_at(self._pems.expires_unix_s)

    @property
    def current(self) -> Pems:
        """Those in force."""
        return self._pems

    def follow(self, follower: Callable[[Pems], None]) -> Callable[[], None]:
        """`follower` is called in the event loop with what is taken over; the result ends that."""
        token = object()
        self._followers[token] = follower

        def unfollow() -> None:
            self._followers.pop(token, None)

        return unfollow

    def start(self) -> None:
        """Looks every POLL_S from now on, until `close`. A second call does nothing."""
        if self._poll is None:
            self._poll = asyncio.create_task(self._run(), name="tls-files")

    async def close(self) -> None:
        """Ends the looking."""
        if self._poll is not None:
            await end_tasks([self._poll])

    async def look(self) -> None:
        """Takes over what the files say, if that is new and good. Raises nothing of its own."""
        found = await self._find()
        if found == self._seen:
            await self._again(found)
            return
        await self._clock.sleep(SETTLE_S)
        if await self._find() != found:
            return  # the next look will see what they have become
        self._seen = found
        await self._take(found)

    def server_credentials(self, *, require_client: bool) -> grpc.ServerCredentials:
        """For a port: every connection that begins is given what is in force then. To be kept as long as the port."""
        given = self._pems

        def fetch() -> grpc.ServerCertificateConfiguration | None:
            """Called by gRPC, in a thread of its own, one at a time for a port."""
            nonlocal given
            newest = self._pems
            if newest is given:
                return None
            given = newest
            return _server_configuration(newest)

        return grpc.dynamic_ssl_server_credentials(
            _server_configuration(given),
            cast("Callable[[], grpc.ServerCertificateConfiguration]", fetch),  # None: nothing has changed
            require_client_authentication=require_client,
        )

    async def _run(self) -> None:
        while True:
            await self._clock.sleep(POLL_S)
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001 - a defect of one look must not end the following
                self._log.error("tls_look_failed", **describe_exception(error))

    async def _find(self) -> Raw | str:
        """What the files hold, or why they cannot be read."""
        try:
            return await asyncio.to_thread(self._places.read)
        except SecretError as error:
            return str(error)

    async def _again(self, found: Raw | str) -> None:
        """The same files once more: what was refused may be good by now, being no longer from the future."""
        if self._refusal and not isinstance(found, str):
            await self._take(found)

    async def _take(self, found: Raw | str) -> None:
        if isinstance(found, str):
            self._refuse(found)
            return
        try:
            pems = await asyncio.to_thread(_checked, self._places, found, self._clock.unix())
        except SecretError as error:
            self._refuse(str(error))
            return
        self._refusal = ""
        if pems == self._pems:
            return
        self._pems = pems
        self._reloads.add(1, {"outcome": "applied"})
        telemetry.certificate_expires_at(pems.expires_unix_s)
        self._log.info("tls_renewed", file=str(self._places.certificate), expires=_date(pems.expires_unix_s))
        for follower in tuple(self._followers.values()):
            follower(pems)

    def _refuse(self, reason: str) -> None:
        if reason == self._refusal:
            return
        self._refusal = reason
        self._reloads.add(1, {"outcome": "refused"})
        self._log.error("tls_refused", reason=reason, kept_until=_date(self._pems.expires_unix_s))

    def _refused(self, _: CallbackOptions) -> Iterable[Observation]:
        return [Observation(int(bool(self._refusal)))]


def _server_configuration(pems: Pems) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pems.key, pems.certificate)], pems.authorities)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise SecretError(f"the file {path} cannot be read: {error.strerror}") from None
    if len(content) > FILE_BYTES_MAX:
        raise SecretError(f"the file {path} is larger than {FILE_BYTES_MAX} bytes")
    return content


def _checked(places: _Places, raw: Raw, now_unix_s: float) -> Pems:
    """Raises SecretError."""
    # Not at the top: a process without TLS need not load it.
    from cryptography import x509  # noqa: PLC0415
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec, rsa  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import load_pem_private_key  # noqa: PLC0415

    certificate, key, authorities = raw
    try:
        chain = x509.load_pem_x509_certificates(certificate)
    except ValueError:
        raise SecretError(f"the file {places.certificate} holds no certificates that can be read") from None
    try:
        x509.load_pem_x509_certificates(authorities)
    except ValueError:
        raise SecretError(f"the file {places.authorities} holds no certificates that can be read") from None
    try:
        private = load_pem_private_key(key, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise SecretError(f"the file {places.key} holds no key that can be read without a password") from None
    if not isinstance(private, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey)):
        raise SecretError(f"the key of {places.key} is neither RSA nor EC")
    if private.public_key() != chain[0].public_key():
        raise SecretError(f"the key of {places.key} is not that of the certificate of {places.certificate}")
    now = dt.datetime.fromtimestamp(now_unix_s, dt.UTC)
    if begins := [each for each in chain if each.not_valid_before_utc > now]:
        when = f"{begins[0].not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC"
        raise SecretError(f"a certificate of {places.certificate} is not valid before {when}")
    expires = min(each.not_valid_after_utc for each in chain)
    if expires <= now:
        raise SecretError(f"a certificate of {places.certificate} expired on {expires:%Y-%m-%d %H:%M:%S} UTC")
    return Pems(certificate, key, authorities, expires.timestamp())


def _date(unix_s: float) -> str:
    return dt.datetime.fromtimestamp(unix_s, dt.UTC).isoformat(timespec="seconds")


def _main() -> None:
    from services.runtime import dev_certs  # noqa: PLC0415 - see _checked

    parser = argparse.ArgumentParser(prog="python -m services.runtime.tls", description="Certificates of the services.")
    commands = parser.add_subparsers(dest="command", required=True)
    text = "Certificates of an authority in DIR, which is made when there is none; again for new ones."
    command = commands.add_parser("dev-certs", help=text, description=text)
    command.add_argument("directory", metavar="DIR", type=Path)
    command.add_argument("--days", type=float, default=dev_certs.DAYS, help="How long they are valid (%(default)g).")
    arguments = parser.parse_args()
    try:
        made = dev_certs.make(arguments.directory, days=arguments.days)
    except (OSError, ValueError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(1)
    for folder in made:
        sys.stdout.write(f"{folder}\n")


if __name__ == "__main__":
    _main()

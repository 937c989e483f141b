"""Certificates for `spillway up` and the commands beside it: found through the section `tls` of the configuration.

Promises: what the environment names comes first, whole; a file that the suite needs and is not there is named before
anything starts.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from spillway.calling import TLS_CA_VARIABLE, TLS_CERT_VARIABLE, TLS_KEY_VARIABLE
from spillway.settings import Tls

__all__ = ["CALLER", "CertificatesError", "adopt", "certificates_of_caller"]

CALLER: Final = "client"
"""What `{service}` stands for where commands look for a certificate of their own."""

_VARIABLES: Final = (TLS_CA_VARIABLE, TLS_CERT_VARIABLE, TLS_KEY_VARIABLE)
_PLACE: Final = "{service}"


class CertificatesError(Exception):
    """Files that `tls` names are not there. The message says which, and what makes them."""


def certificates_of_caller(tls: Tls, services: Sequence[str], environment: Mapping[str, str]) -> tuple[str, ...]:
    """Files by which the suite is called from this machine: authority, certificate and key; empty where TLS is off or
    the environment names its own; the authority alone where the caller has no certificate and no service asks for one.

    They are those of `tls` with "client" for "{service}". Raises CertificatesError when one that is needed, or one of a
    service's, is no file. Every service counts, for `up` asks each of them whether it is well.
    """
    if not tls.is_on:
        return ()
    for owner in services:
        _check(tls, owner, _files(tls, owner))
    if any(environment.get(name) for name in _VARIABLES):
        return ()
    authority, *pair = _files(tls, CALLER)
    is_asked = any(service in tls.require_client_certificate for service in services)
    files = (authority, *pair) if is_asked or any(path.is_file() for path in pair) else (authority,)
    _check(tls, CALLER, files)
    return tuple(map(str, files))


def adopt(certificates: Sequence[str]) -> None:
    """Calls of this process are made with them from now on, unless its environment names others."""
    if certificates and not any(os.environ.get(name) for name in _VARIABLES):
        os.environ.update(zip(_VARIABLES, certificates, strict=False))  # the authority may be all there is


def _files(tls: Tls, owner: str) -> tuple[Path, ...]:
    named = (tls.ca_file, tls.cert_file, tls.key_file)
    return tuple(Path(name.replace(_PLACE, owner)).absolute() for name in named)


def _check(tls: Tls, owner: str, files: Sequence[Path]) -> None:
    for path in files:
        if not path.is_file():
            raise CertificatesError(_missing(tls, path, owner))


def _missing(tls: Tls, path: Path, owner: str) -> str:
    whose = f"`spillway up` itself (or name others in {', '.join(_VARIABLES)})" if owner == CALLER else owner
    folder = Path(tls.cert_file.partition(_PLACE)[0] or ".").absolute()
    return (
        f"tls: there is no file {path}, a certificate of {whose}. For one machine "
        f"`python -m services.runtime.tls dev-certs {folder}` makes all of them"
    )

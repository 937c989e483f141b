"""Connections of commands to processes of the suite: TLS where the environment names certificates, as for `Client`."""

from __future__ import annotations

from collections.abc import Sequence

import grpc
import grpc.aio

from spillway.calling import credentials_of_environment, server_name_options

__all__ = ["open_channel"]


def open_channel(address: str, options: Sequence[tuple[str, str | int]] = ()) -> grpc.aio.Channel:
    """To be closed by the caller. Raises CredentialsError."""
    credentials = credentials_of_environment()
    if credentials is None:
        return grpc.aio.insecure_channel(address, options)
    return grpc.aio.secure_channel(address, credentials, [*options, *server_name_options()])

"""Reads a file that others may put in place, without ever waiting for them.

Promises: what is no regular file (a pipe, a device, a folder) is an OSError at once; no more is read than asked for.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

__all__ = ["read_regular"]


def read_regular(path: Path, bytes_max: int) -> bytes:
    """Up to `bytes_max` bytes from its beginning. Blocking, as disks are. Raises OSError."""
    # A pipe that nobody writes to would block the opening for ever.
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    with os.fdopen(number, "rb") as file:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise OSError(errno.EINVAL, "it is no regular file", str(path))
        return file.read(bytes_max)

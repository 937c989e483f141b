"""Arrays in an .npz file, read with suspicion: a file may be damaged, or be anybody's.

Promises: pure; never unpickles; whatever the bytes are, there are arrays or a PackedArraysError; each array is read to
its end, so that its checksum holds; not more than `unpacked_bytes_max` is unpacked.
"""

from __future__ import annotations

import io
import lzma
import struct
import tokenize
import zipfile
import zlib
from typing import Any, Final

import numpy as np
import numpy.typing as npt

__all__ = ["PackedArraysError", "unpack_arrays"]

_MEMBER: Final = ".npy"

_UNREADABLE: Final = (
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
"""What zipfile and NumPy raise on damaged bytes: an array's head is Python source, which is parsed."""


class PackedArraysError(ValueError):
    """These bytes are no arrays that may be read. The message names no more than the kind of error."""


def unpack_arrays(data: bytes, *, unpacked_bytes_max: int) -> dict[str, npt.NDArray[Any]]:
    """The arrays by name. Raises PackedArraysError."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            if sum(each.file_size for each in members) > unpacked_bytes_max:
                raise PackedArraysError("they unpack to too much")
            return {each.filename.removesuffix(_MEMBER): _array(archive.read(each)) for each in members}
    except PackedArraysError:
        raise
    except _UNREADABLE as error:
        raise PackedArraysError(type(error).__name__) from error


def _array(data: bytes) -> npt.NDArray[Any]:
    found: npt.NDArray[Any] = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    return found

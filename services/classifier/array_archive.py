"""Arrays out of an .npz file that anybody may have written, or damaged.

Promises: never unpickles; nothing of more than `UNPACKED_BYTES_MAX` is unpacked; whatever is no such file is an
ArrayArchiveError, whichever of the libraries noticed. Reads no files.
"""

from __future__ import annotations

import io
import zipfile

import numpy as np
import numpy.typing as npt

__all__ = ["ArrayArchiveError", "arrays_of"]

UNPACKED_BYTES_MAX = 64 * 1024 * 1024
"""No head has more, by the bounds on its parts; a file that claims more is refused unread."""


class ArrayArchiveError(ValueError):
    """No archive of arrays. The text continues "the file ..."."""


def arrays_of(data: bytes) -> dict[str, npt.NDArray[np.generic]]:
    """The arrays by name. Raises ArrayArchiveError."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            unpacked_bytes = sum(entry.file_size for entry in archive.infolist())
        if unpacked_bytes > UNPACKED_BYTES_MAX:
            raise ArrayArchiveError("is too large when unpacked")
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except ArrayArchiveError:
        raise
    # Of zlib, lzma, zipfile, struct, numpy, ...: there is no list of what they raise at bytes that are damaged.
    except Exception as error:
        raise ArrayArchiveError(f"is unreadable ({type(error).__name__})") from error

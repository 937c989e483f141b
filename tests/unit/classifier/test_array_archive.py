"""A damaged file of arrays ends in one error, whichever library stumbles over it; a head's names the file."""

from __future__ import annotations

import io
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest

from services.classifier.array_archive import ArrayArchiveError, arrays_of
from services.classifier.head import HeadError
from services.classifier.startup import BUILTIN_HEAD, open_head


def archive(compression: int = zipfile.ZIP_DEFLATED) -> bytearray:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as file:
        for name in ("one", "other"):
            array = io.BytesIO()
            np.save(array, np.random.default_rng(7).integers(0, 9, 2_000))
            file.writestr(f"{name}.npy", array.getvalue())
    return bytearray(packed.getvalue())


def test_what_was_packed_is_read() -> None:
    assert {name: array.shape for name, array in arrays_of(bytes(archive())).items()} == {
        "one": (2_000,),
        "other": (2_000,),
    }


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_a_damaged_stream_is_one_error(compression: int) -> None:
    data = archive(compression)
    data[60:160] = b"\xff" * 100
    with pytest.raises(ArrayArchiveError, match="unreadable"):
        arrays_of(bytes(data))


def test_whatever_bytes_are_damaged_nothing_else_is_raised() -> None:
    """Seed 7."""
    whole, chosen = archive(), random.Random(7)
    raised = 0
    for _ in range(500):
        data = bytearray(whole)
        for _ in range(chosen.choice((1, 3, 30))):
            data[chosen.randrange(len(data))] = chosen.randrange(256)
        try:
            arrays_of(bytes(data))
        except ArrayArchiveError:
            raised += 1
    assert raised > 400


def test_what_would_unpack_too_large_is_refused_unread() -> None:
    bomb = io.BytesIO()
    np.savez_compressed(bomb, zeros=np.zeros(80 * 1024 * 1024, dtype=np.uint8))
    with pytest.raises(ArrayArchiveError, match="too large"):
        arrays_of(bomb.getvalue())


@pytest.mark.parametrize("damage", ["stream", "encrypted", "end"])
def test_a_damaged_head_ends_in_an_error_that_names_the_file(tmp_path: Path, damage: str) -> None:
    data = bytearray(BUILTIN_HEAD.read_bytes())
    if damage == "stream":
        data[2_000:2_100] = b"\xff" * 100
    elif damage == "encrypted":
        at = -1
        while (at := data.find(b"PK\x01\x02", at + 1)) >= 0:
            data[at + 8] |= 1
    else:
        del data[len(data) // 2 :]
    path = tmp_path / "head-of-mine.npz"
    path.write_bytes(data)
    with pytest.raises(HeadError, match=r"head-of-mine\.npz"):
        open_head(path)

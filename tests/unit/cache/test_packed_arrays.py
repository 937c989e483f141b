"""Whatever the bytes of a file of arrays are, it is read, or refused as what it is."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import numpy as np
import pytest

from services.cache.matching import pair_model
from services.cache.matching.packed_arrays import PackedArraysError, unpack_arrays
from services.cache.matching.pair_model import PairModelError, parse_pair_model
from services.cache.matching.risk_control import RiskController, RiskPolicy
from services.cache.matching.risk_state import UNPACKED_BYTES_MAX, RiskStateError
from tests.support.risk_world import World

PAIR_MODEL_FILE = Path(pair_model.__file__).parent / "data" / "pair_model.npz"
DAMAGES = 300

HEAD_BYTES = 128
"""Of an array: it is Python source."""


def packed(**arrays: object) -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()


def with_damaged_heads(data: bytes, random: Random, count: int) -> Iterator[bytes]:
    """The head of one array is damaged, and the checksums are right."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {each: archive.read(each) for each in archive.namelist()}
    for _ in range(count):
        chosen = random.choice(list(members))
        damaged = bytearray(members[chosen])
        for _ in range(random.choice((1, 1, 2, 5))):
            damaged[random.randrange(min(HEAD_BYTES, len(damaged)))] = random.randrange(256)
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, bytes(damaged) if name == chosen else content)
        yield stream.getvalue()


def with_damage(data: bytes, random: Random, count: int) -> Iterator[bytes]:
    """Single bytes are others, or some are missing."""
    for _ in range(count):
        damaged = bytearray(data)
        at = random.randrange(len(damaged))
        if random.random() < 0.7:
            damaged[at] = random.randrange(256)
        else:
            del damaged[at : at + random.randrange(1, 200)]
        yield bytes(damaged)


def state() -> bytes:
    world = World(3)
    world.ask(20)
    return world.controller.state()


def restored(data: bytes) -> None:
    RiskController(RiskPolicy(), Random(1)).restore(data)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("damage", [with_damage, with_damaged_heads])
@pytest.mark.parametrize(
    ("whole", "reads", "refused"),
    [
        (state, restored, RiskStateError),
        (PAIR_MODEL_FILE.read_bytes, parse_pair_model, PairModelError),
        (
            lambda: packed(a=np.arange(3), b=np.asarray(["x"])),
            lambda data: unpack_arrays(data, unpacked_bytes_max=UNPACKED_BYTES_MAX),
            PackedArraysError,
        ),
    ],
    ids=["state", "pair_model", "arrays"],
)
def test_damaged_bytes_are_refused_as_unreadable_and_raise_nothing_else(
    whole: Callable[[], bytes],
    reads: Callable[[bytes], object],
    refused: type[Exception],
    damage: Callable[[bytes, Random, int], Iterator[bytes]],
) -> None:
    data = whole()
    reads(data)
    refusals = 0
    for damaged in damage(data, Random(1), DAMAGES):
        try:
            reads(damaged)
        except refused:
            refusals += 1
    assert refusals > DAMAGES // 5


def test_an_array_whose_head_ends_within_a_bracket_is_refused() -> None:
    with zipfile.ZipFile(io.BytesIO(packed(a=np.arange(3)))) as archive:
        content = archive.read("a.npy").replace(b"(3,), ", b"(3,(, ")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.npy", content)
    with pytest.raises(PackedArraysError):
        unpack_arrays(stream.getvalue(), unpacked_bytes_max=UNPACKED_BYTES_MAX)


def test_an_array_that_says_to_be_shorter_than_it_is_written_is_read_to_its_end() -> None:
    data = bytearray(packed(a=np.arange(300, dtype=np.float64)))
    with zipfile.ZipFile(io.BytesIO(bytes(data))) as archive:
        whole = archive.read("a.npy")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.npy", whole)
    changed = stream.getvalue().replace(b"<f8", b"<f4")
    with pytest.raises(PackedArraysError, match="BadZipFile"):
        unpack_arrays(changed, unpacked_bytes_max=UNPACKED_BYTES_MAX)


def test_pickles_are_refused() -> None:
    with pytest.raises(PackedArraysError, match="ValueError"):
        unpack_arrays(packed(a=np.asarray([object()])), unpacked_bytes_max=UNPACKED_BYTES_MAX)

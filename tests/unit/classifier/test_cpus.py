"""How many threads a container's limit allows."""

from __future__ import annotations

from pathlib import Path

import pytest

from services.classifier.cpus import cgroup_directories, cpus_allowed, read_cpus


@pytest.mark.parametrize(
    ("usable", "limits", "expected"),
    [
        (64, [], 64),
        (64, [("max 100000", "")], 64),
        (64, [("200000 100000", "")], 2),
        (64, [("150000 100000", "")], 1),
        (64, [("50000 100000", "")], 1),
        (64, [("400000 100000", ""), ("300000 100000", ""), ("max 100000", "")], 3),
        (2, [("800000 100000", "")], 2),
        (64, [("400000\n", "100000\n")], 4),
        (64, [("-1\n", "100000\n")], 64),
        (64, [("", ""), ("nonsense here", ""), ("5", ""), ("0 0", ""), ("nan nan", ""), ("inf 1", "")], 64),
    ],
)
def test_the_least_limit_holds_rounded_down_and_never_below_one(
    usable: int, limits: list[tuple[str, str]], expected: int
) -> None:
    assert cpus_allowed(usable, limits) == expected


def test_limits_stand_in_the_own_group_and_in_those_around_it() -> None:
    root = Path("/r")
    assert cgroup_directories("0::/a/b\n", root) == [
        root / "a/b", root / "a", root, root / "unified/a/b", root / "unified/a", root / "unified",
    ]  # fmt: skip
    version_1 = "12:memory:/m\n3:cpu,cpuacct:/d/c\n1:name=systemd:/x\n"
    assert cgroup_directories(version_1, root) == [
        root / "cpu,cpuacct/d/c", root / "cpu,cpuacct/d", root / "cpu,cpuacct", root / "cpu/d/c", root / "cpu/d",
        root / "cpu",
    ]  # fmt: skip


def test_no_path_leads_out_of_the_tree() -> None:
    assert all(".." not in path.parts for path in cgroup_directories("0::/../../etc\n" * 200, Path("/r")))


def test_the_files_of_both_versions_are_read(tmp_path: Path) -> None:
    membership = tmp_path / "cgroup"
    membership.write_text("0::/pod/app\n4:cpu,cpuacct:/pod\n", encoding="ascii")
    assert read_cpus(tmp_path, membership) >= 1
    (tmp_path / "pod").mkdir()
    (tmp_path / "pod" / "cpu.max").write_text("100000 100000\n", encoding="ascii")
    assert read_cpus(tmp_path, membership) == 1


def test_a_machine_without_any_of_the_files_uses_its_cpus(tmp_path: Path) -> None:
    assert read_cpus(tmp_path, tmp_path / "none") >= 1

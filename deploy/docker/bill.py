"""Adds the Debian packages of an image to the bill of its Python packages (CycloneDX JSON, as cyclonedx-py writes it).

Promises: pure; the same input gives the same bytes; what the bill had stays as it was.

    python bill.py BILL DPKG_STATUS > BILL_OF_THE_IMAGE
"""

# ruff: noqa: INP001 - a script of the images, in no package
from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

__all__ = ["packages", "with_debian"]


def packages(status: str) -> list[dict[str, str]]:
    """The installed packages of a dpkg status file, each a CycloneDX component."""
    found = []
    for paragraph in status.split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in paragraph.splitlines() if ": " in line and not line.startswith(" ")
        )
        if fields.get("Status", "").split()[-1:] != ["installed"]:
            continue
        name, version, architecture = fields["Package"], fields["Version"], fields["Architecture"]
        purl = f"pkg:deb/debian/{quote(name)}@{quote(version, safe='')}?arch={architecture}"
        found.append({"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl})
    return sorted(found, key=lambda component: component["name"])


def with_debian(bill: Mapping[str, Any], status: str) -> dict[str, Any]:
    """`bill` with one more component for each package of `status`."""
    return {**bill, "components": [*bill.get("components", []), *packages(status)]}


if __name__ == "__main__":
    _bill, _status = (Path(path).read_text(encoding="utf-8") for path in sys.argv[1:])
    json.dump(with_debian(json.loads(_bill), _status), sys.stdout, indent=2)
    sys.stdout.write("\n")

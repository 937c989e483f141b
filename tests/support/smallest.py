"""The smallest configuration there is: one provider that nobody listens at, one tier, one target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

__all__ = ["SMALLEST", "smallest_file"]

SMALLEST: dict[str, Any] = {
    "providers": {"p": {"base_url": "http://127.0.0.1:1/v1"}},
    "tiers": [
        {
            "name": "simple",
            "targets": [
                {
                    "name": "a",
                    "provider": "p",
                    "model": "a",
                    "price": {"input_usd_per_mtok": 1, "output_usd_per_mtok": 1},
                }
            ],
        }
    ],
}


def smallest_file(folder: Path, **sections: Any) -> Path:
    """spillway.yaml in `folder`: it, and these sections."""
    path = folder / "spillway.yaml"
    path.write_text(yaml.safe_dump({**SMALLEST, **sections}), encoding="utf-8")
    return path

"""The smallest configuration there is: one provider that nobody listens at, one tier, one target."""

from __future__ import annotations

from typing import Any

__all__ = ["SMALLEST"]

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

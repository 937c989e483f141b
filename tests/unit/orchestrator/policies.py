"""A policy with rules of several kinds."""

from __future__ import annotations

__all__ = ["FREE", "MATHS", "POLICY", "PRIVATE", "VIP"]

VIP = {"name": "vip", "when": {"user_tier": ["vip"]}, "then": {"start_tier": "complex"}}
MATHS = {"name": "maths", "when": {"task_type": ["math"]}, "then": {"target": "medium-1"}}
PRIVATE = {"name": "private", "when": {"tags": ["private"]}, "then": {"cache_mode": "bypass"}}
FREE = {"name": "free", "when": {"user_tier": ["free"]}, "then": {"tier_ceiling": "medium"}}
POLICY = {"bypass_endpoints": ["pay/*", "alarm"], "rules": [VIP, MATHS, PRIVATE, FREE]}

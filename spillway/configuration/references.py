"""What types alone cannot say about a configuration: names that exist, expressions that compile, rules that can match.

Promises: reads the raw data, whatever shape it has, so that these errors stand in one report with those of type. What
concerns the policy is in `policy_references`, what concerns gates in `gate_references`.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

from spillway.configuration.document import Document, Place
from spillway.configuration.gate_references import check_gates
from spillway.configuration.policy_references import check_policy
from spillway.configuration.raw_data import check_unique, items, known, mapping, targets_of, text
from spillway.configuration.redis_url import Topology, parse_redis_url

__all__ = ["check"]


def check(document: Document) -> None:
    """Adds to `document` what is wrong."""
    data = mapping(document.data)
    tiers = list(items(data.get("tiers"), ("tiers",)))
    providers = set(mapping(data.get("providers")))
    check_unique(document, targets_of(tiers), "target")
    for place, target in targets_of(tiers):
        known(document, (*place, "provider"), target.get("provider"), providers, "provider")
    tier_of_target = {
        name: text(tier.get("name"))
        for place, tier in tiers
        for _, target in items(tier.get("targets"), place)
        if (name := text(target.get("name")))
    }
    _check_tiers(document, tiers, tier_of_target)
    order = [name for _, tier in tiers if (name := text(tier.get("name")))]
    check_policy(document, mapping(data.get("policy")), order, tier_of_target)
    for place, section, key in (
        (("flagship",), data, "flagship"),
        (("canary", "judge"), mapping(data.get("canary")), "judge"),
        (("classifier", "small_llm", "target"), mapping(mapping(data.get("classifier")).get("small_llm")), "target"),
    ):
        known(document, place, section.get(key), tier_of_target, "target")
    quotas = mapping(data.get("quotas"))
    kinds = ("budgets", "rates")
    check_unique(document, chain.from_iterable(items(quotas.get(k), ("quotas", k)) for k in kinds), "quota")
    cache = mapping(data.get("cache"))
    if cache.get("store") == "redis" and not cache.get("redis_url"):
        document.add(("cache", "redis_url"), "must be set for the store redis")
    for place in (("orchestrator", "redis_url"), ("executor", "share_redis_url"), ("cache", "redis_url")):
        if url := text(mapping(data.get(place[0])).get(place[1])):
            _check_redis_url(document, place, url)


def _check_redis_url(document: Document, place: Place, url: str) -> None:
    try:
        topology = parse_redis_url(url).topology
    except ValueError as error:
        document.add(place, str(error))
        return
    if topology is Topology.CLUSTER and place[0] == "orchestrator":
        document.add(place, "cannot be a cluster: name sentinels (redis+sentinel://), or a server of its own")


def _check_tiers(document: Document, tiers: list[tuple[Place, dict[str, Any]]], targets: dict[str, str]) -> None:
    check_unique(document, iter(tiers), "tier")
    for place, tier in tiers:
        own = {name for _, target in items(tier.get("targets"), place) if (name := text(target.get("name")))}
        check_gates(document, (*place, "gates"), tier.get("gates"), targets, own)

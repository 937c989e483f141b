"""The schema of spillway.yaml: one file for the whole suite; every service reads the part it needs.

Promises: every field has a range and a default that works on one machine without a network; unknown keys are errors.
`services.runtime.config` reads the file, fills in `${VARIABLE:-default}`, and reports every error at once. Secrets
never stand in the file: it names an environment variable or a file that holds them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from spillway.routing import Complexity
from spillway.settings.cache import Audits, Cache, Freshness
from spillway.settings.canary import Canary
from spillway.settings.classifier import Classifier, ClusterMemory, EmbeddingEndpoint, SmallLlm
from spillway.settings.executor import Breaker, Executor, Hedging, RetryBudget
from spillway.settings.jobs import Jobs
from spillway.settings.ladder import (
    AgreementGate,
    CompositeGate,
    Gate,
    JudgeGate,
    LogprobGate,
    Prefix,
    Price,
    Provider,
    RulesGate,
    SelfConfidenceGate,
    SelfEvaluationGate,
    Target,
    Tier,
)
from spillway.settings.ledger import Ledger
from spillway.settings.policy import CostAware, NewUsers, Policy, Rollout, Rule, RuleAction, RuleCondition, WeekTime
from spillway.settings.process import Limits, Log, Orchestrator, ServiceAddress, Services, Telemetry
from spillway.settings.quotas import Budget, Quotas, Rate
from spillway.settings.section import Name, Section
from spillway.settings.tls import Tls

__all__ = [
    "AgreementGate",
    "Audits",
    "Breaker",
    "Budget",
    "Cache",
    "Canary",
    "Classifier",
    "ClusterMemory",
    "CompositeGate",
    "CostAware",
    "EmbeddingEndpoint",
    "Executor",
    "Freshness",
    "Gate",
    "Hedging",
    "Jobs",
    "JudgeGate",
    "Ledger",
    "Limits",
    "Log",
    "LogprobGate",
    "NewUsers",
    "Orchestrator",
    "Policy",
    "Prefix",
    "Price",
    "Provider",
    "Quotas",
    "Rate",
    "RetryBudget",
    "Rollout",
    "Rule",
    "RuleAction",
    "RuleCondition",
    "RulesGate",
    "SelfConfidenceGate",
    "SelfEvaluationGate",
    "ServiceAddress",
    "Services",
    "Settings",
    "SmallLlm",
    "Target",
    "Telemetry",
    "Tier",
    "Tls",
    "WeekTime",
]


class Settings(Section):
    """The whole file."""

    version: Literal[1] = 1
    providers: dict[Name, Provider] = Field(min_length=1)
    tiers: list[Tier] = Field(min_length=1, max_length=8, description="Cheapest first.")
    flagship: str = Field(
        "", description="The target that savings are measured against. Default: the last tier's first."
    )
    policy: Policy = Policy()
    canary: Canary = Canary()
    quotas: Quotas = Quotas()
    jobs: Jobs = Jobs()
    orchestrator: Orchestrator = Orchestrator()
    classifier: Classifier = Classifier()
    cache: Cache = Cache()
    executor: Executor = Executor()
    ledger: Ledger = Ledger()
    services: Services = Services()
    tls: Tls = Tls()
    limits: Limits = Limits()
    telemetry: Telemetry = Telemetry()
    log: Log = Log()

    @property
    def flagship_target(self) -> Target:
        """The target that savings are measured against."""
        targets = [target for tier in self.tiers for target in tier.targets]
        return next((t for t in targets if t.name == self.flagship), self.tiers[-1].targets[0])

    def tier_of_complexity(self, complexity: Complexity) -> int:
        """Where a request of this complexity starts when nothing else is known, as an index into `tiers`.

        The configured tier; else the one of that name; else the first for simple, the last for complex, and for medium
        the middle one, or the lower of two. Raises ValueError when the configured one is not among the tiers.
        """
        names = [tier.name for tier in self.tiers]
        configured = self.policy.start_tier.get(complexity)
        if configured:
            if configured not in names:
                raise ValueError(f"policy.start_tier.{complexity}: there is no tier {configured!r}")
            return names.index(configured)
        if complexity.value in names:
            return names.index(complexity.value)
        last = len(names) - 1
        return {Complexity.SIMPLE: 0, Complexity.MEDIUM: last // 2, Complexity.COMPLEX: last}[complexity]

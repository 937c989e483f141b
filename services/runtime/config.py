"""spillway.yaml: found, read, filled in, and checked as a whole.

Promises: every error at once, each with its path and line, those of type and those of reference together; nothing of a
bad file is used. Secrets are read by name from the environment or from a file, never from here, and never printed.

    python -m services.runtime.config schema         the JSON Schema of the file
    python -m services.runtime.config check [PATH]   all errors, or nothing
    python -m services.runtime.config show [PATH]    the settings in force, defaults included
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from spillway.configuration import document, references
from spillway.configuration.document import Document, Place, Problem, path_text
from spillway.configuration.wording import wording
from spillway.settings import ServiceAddress, Services, Settings

__all__ = [
    "ConfigError",
    "Loaded",
    "SecretError",
    "SecretMissingError",
    "load",
    "parse",
    "read_api_key",
    "read_file",
    "read_secret",
    "variable_text",
    "version_of",
]

PATH_ENV: Final = "SPILLWAY_CONFIG"
LOCAL_NAME: Final = "spillway.yaml"
SECRET_BYTES_MAX: Final = 65_536
_VERSION_DIGITS: Final = 12
_SURELY_A_NAME: Final = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")
_DEFAULT: Final = resources.files("spillway") / "configs" / "default.yaml"


class ConfigError(Exception):
    """The file cannot be used. `problems`, in the order of the file, says everything that is wrong with it."""

    def __init__(self, path: Path, problems: Sequence[Problem]) -> None:
        self.path = path
        self.problems = tuple(sorted(problems, key=lambda problem: problem.line))
        count = f"{len(problems)} errors" if len(problems) > 1 else "1 error"
        super().__init__("\n".join([f"{path}: {count}", *(f"  {problem}" for problem in self.problems)]))


class SecretError(Exception):
    """A secret is named, but its variable or file does not have it, or not one that can be used."""


class SecretMissingError(SecretError):
    """The variable that a secret is to come from is not set."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """The settings in force, the version of the file's (`version_of`), and where they came from.

    They are the file's own unless settings wait for a restart: then `in_force` is another version.
    """

    settings: Settings
    version: str
    path: Path

    @property
    def in_force(self) -> str:
        """The version of the settings as they are here."""
        return version_of(self.settings)


def load(path: Path | None = None, environment: Mapping[str, str] | None = None) -> Loaded:
    """Reads the file: `path`, else $SPILLWAY_CONFIG, else ./spillway.yaml, else the one in the package.

    Raises ConfigError. `environment` is the process's own by default.
    """
    variables = os.environ if environment is None else environment
    found = path or _find(variables)
    return parse(read_file(found), found, variables)


def read_file(path: Path) -> bytes:
    """The file's bytes, or so many that `parse` refuses them. Raises ConfigError."""
    try:
        with path.open("rb") as file:
            return file.read(document.BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(path, [Problem(0, "", f"cannot be read: {error.strerror}")]) from error


def parse(raw: bytes, path: Path, environment: Mapping[str, str] | None = None) -> Loaded:
    """What `raw`, the content of the file at `path`, says. Raises ConfigError."""
    variables = os.environ if environment is None else environment
    read = document.parse(raw, variables)
    _fill_in_addresses(read.data, variables)
    settings = _validated(read)
    if settings is None or read.problems:
        raise ConfigError(path, read.problems)
    return Loaded(settings, version_of(settings), path)


def version_of(settings: Settings) -> str:
    """12 hex digits of the SHA-256 of the values."""
    return hashlib.sha256(settings.model_dump_json().encode()).hexdigest()[:_VERSION_DIGITS]


def _find(variables: Mapping[str, str]) -> Path:
    if named := variables.get(PATH_ENV):
        return Path(named)
    local = Path(LOCAL_NAME)
    # The wheel is installed unzipped, so the packaged file has a path.
    return local if local.is_file() else Path(str(_DEFAULT))


def _fill_in_addresses(data: Any, variables: Mapping[str, str]) -> None:
    """Of services that the file says nothing of: $SPILLWAY_CACHE_LISTEN and so on, as the packaged file has them."""
    if not isinstance(data, dict) or not isinstance(found := data.setdefault("services", {}), dict):
        return
    for name, field in Services.model_fields.items():
        if name not in found:
            usual: ServiceAddress = field.default
            said = {key: variables.get(f"SPILLWAY_{name.upper()}_{key.upper()}", "") for key in ("listen", "target")}
            found[name] = {key: value or getattr(usual, key) for key, value in said.items()}


def _validated(read: Document) -> Settings | None:
    """The settings, or None with everything that is wrong noted in `read`."""
    if read.data is None:
        return None
    settings: Settings | None = None
    unread = {problem.path for problem in read.problems}
    try:
        settings = Settings.model_validate(read.data)
    except ValidationError as error:
        for wrong in error.errors(include_url=False, include_input=False):
            place = _place(read.data, wrong["loc"])
            if path_text(place) not in unread:  # what could not be read has no value to complain of
                read.add(place, wording(Settings, wrong))
    references.check(read)
    return settings


def _place(data: Any, location: tuple[str | int, ...]) -> Place:
    """pydantic's location without the tags of unions, which do not stand in the file."""
    place: list[str | int] = []
    current = data
    for i, part in enumerate(location):
        inside_mapping = isinstance(current, dict) and part in current
        inside_list = isinstance(current, list) and isinstance(part, int) and part < len(current)
        if inside_mapping or inside_list:
            current = current[part]
        elif i < len(location) - 1 or part == "[key]":
            continue
        place.append(part)
    return tuple(place)


def read_secret(env: str, file: str) -> str:
    """The secret in `file`, or else in the variable `env`; empty when neither is named. Surrounding space is cut.

    Raises SecretError, whose text names the place and never the secret.
    """
    if file:
        try:
            with Path(file).open("rb") as opened:
                raw = opened.read(SECRET_BYTES_MAX)
            secret = raw.decode("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise SecretError(f"{_file_text(file)} cannot be read: {type(error).__name__}") from None
        if not secret:
            raise SecretError(f"{_file_text(file)} is empty")
        return secret
    if env:
        secret = os.environ.get(env, "").strip()
        if not secret:
            raise SecretMissingError(f"{variable_text(env)} is not set")
        return secret
    return ""


def read_api_key(env: str, file: str) -> str:
    """As `read_secret`, for a key that travels in an HTTP header: printable ASCII. Raises SecretError."""
    key = read_secret(env, file)
    for number, char in enumerate(key, start=1):
        if not (char.isascii() and char.isprintable()):
            where = _file_text(file) if file else variable_text(env)
            raise SecretError(
                f"{where} has no usable key: its character {number} is not printable ASCII; "
                "was it shortened, or copied with a line break?"
            )
    return key


def variable_text(env: str) -> str:
    """The variable as a message may name it: what is no name in capitals may be a secret that stands in its place."""
    named = _SURELY_A_NAME.fullmatch(env)
    return f"the environment variable {env}" if named else "the environment variable that the setting names"


def _file_text(file: str) -> str:
    """As `variable_text`, of a file: what has no folder may be no path."""
    return f"the file {file}" if "/" in file else "the file that the setting names"


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m services.runtime.config", description="spillway.yaml")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("schema", help="print the JSON Schema of the file")
    for name, text in (("check", "print all errors"), ("show", "print the settings in force")):
        commands.add_parser(name, help=text).add_argument("path", type=Path, nargs="?")
    arguments = parser.parse_args()
    if arguments.command == "schema":
        schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **Settings.model_json_schema()}
        sys.stdout.write(json.dumps(schema, indent=2) + "\n")
        return
    try:
        loaded = load(arguments.path)
    except ConfigError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(2)
    if arguments.command == "check":
        sys.stdout.write(f"{loaded.path}: good, version {loaded.version}\n")
    else:
        sys.stdout.write(loaded.settings.model_dump_json(indent=2) + "\n")


if __name__ == "__main__":
    _main()

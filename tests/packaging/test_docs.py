"""What the pages name is there: links and their headings, files, make targets, modules, commands, options, settings."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperGroup

from spillway.cli.app import app
from spillway.settings import Settings

REPOSITORY = Path(__file__).resolve().parents[2]
# What readers have, or make.
THEIRS = {"spillway.yaml", "adversarial_generic.json", "cache/adversarial_generic.json"}
PARENT = r"(?:services|spillway|tests|docs|deploy|scripts|lab|bench|protos|\.ci)/"
FILE = r"\w[\w./-]*\.(?:py|md|yaml|jsonl|json|proto|toml|sha256)"


@cache
def tracked() -> tuple[str, ...]:
    run = subprocess.run(["git", "ls-files"], cwd=REPOSITORY, check=True, capture_output=True, text=True)
    return tuple(run.stdout.splitlines())


@cache
def text(path: str) -> str:
    return (REPOSITORY / path).read_text()


def pages() -> list[str]:
    return [path for path in tracked() if path.endswith(".md")]


def prose(page: str) -> str:
    """Without what is fenced."""
    return re.sub(r"^```.*?^```$", "", text(page), flags=re.MULTILINE | re.DOTALL)


@cache
def code(page: str) -> tuple[str, ...]:
    """Lines of fenced code, continued ones whole, and spans of code, those over two lines whole."""
    fences = re.findall(r"^```[^\n]*\n(.*?)^```$", text(page), flags=re.MULTILINE | re.DOTALL)
    lines = [" ".join(line.split()) for fence in fences for line in fence.replace("\\\n", " ").splitlines()]
    return (*lines, *(" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose(page))))


def all_code() -> Iterator[tuple[str, str]]:
    return ((page, line) for page in pages() for line in code(page))


def anchors(page: str) -> set[str]:
    """Those that GitHub gives the headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE):
        plain = re.sub(r"[^\w\- ]", "", re.sub(r"\]\([^)]*\)", "", heading).casefold()).strip().replace(" ", "-")
        found.add(next(name for name in (plain, *(f"{plain}-{n}" for n in range(1, 99))) if name not in found))
    return found


def test_every_relative_link_leads_to_a_page_and_a_heading_of_it() -> None:
    broken = []
    for page in pages():
        for link, anchor in re.findall(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]+))?(?:\s[^)]*)?\)", prose(page)):
            goal = (REPOSITORY / page).parent / link if link else REPOSITORY / page
            if not goal.exists():
                broken.append(f"{page}: {link}")
            elif anchor and anchor not in anchors(str(goal.resolve().relative_to(REPOSITORY))):
                broken.append(f"{page}: {link}#{anchor}")
    assert broken == []


def test_every_page_of_the_docs_is_reached_from_the_readme() -> None:
    reached: set[str] = set()
    ahead = {"README.md"}
    while ahead:
        page = ahead.pop()
        reached.add(page)
        goals = (
            ((REPOSITORY / page).parent / link).resolve() for link in re.findall(r"\]\(([^)#\s]+\.md)", prose(page))
        )
        ahead |= {str(goal.relative_to(REPOSITORY)) for goal in goals if goal.exists()} - reached
    assert [page for page in pages() if page.startswith("docs/") and page not in reached] == []


def test_every_page_of_the_docs_is_in_their_index() -> None:
    named = {f"docs/{link}" for link in re.findall(r"\]\(([^)#\s]+\.md)", prose("docs/README.md"))}
    beside = [page for page in pages() if re.fullmatch(r"docs/[^/]+\.md", page) and page != "docs/README.md"]
    assert [page for page in beside if page not in named] == []


def test_every_file_that_is_named_is_there() -> None:
    files = {f"/{path}" for path in tracked()}
    folders = {f"/{parent}" for path in tracked() for parent in Path(path).parents}
    missing = []
    for page, line in all_code():
        # What a colon and a digit follow is an image.
        named = re.findall(rf"(?<![\w./~$-]){PARENT}[\w./-]*\w(?![\w*{{…]|:\d)", line)
        missing += [f"{page}: {name}" for name in named if f"/{name}" not in files | folders]
        if re.fullmatch(FILE, line) and line not in THEIRS and not any(path.endswith(f"/{line}") for path in files):
            missing.append(f"{page}: {line}")
    assert missing == []


def test_every_make_target_that_is_named_is_one() -> None:
    targets = set(re.findall(r"^([\w-]+):", text("Makefile"), re.MULTILINE))
    named = {(page, name) for page, line in all_code() for name in re.findall(r"^(?:\w+=\S+ )*make ([\w-]+)", line)}
    assert len(named) > 5
    assert [each for each in sorted(named) if each[1] not in targets] == []


def test_every_module_that_is_to_be_run_is_one_and_has_the_options_that_are_named() -> None:
    wrong = []
    for page, line in all_code():
        for module, rest in re.findall(r"python\S* -m ((?:lab|bench|services|spillway)[\w.]*)([^|;`]*)", line):
            path = module.replace(".", "/")
            if f"{path}.py" not in tracked() and f"{path}/__main__.py" not in tracked():
                wrong.append(f"{page}: {module}")
                continue
            # A module may take options of its neighbours; what nobody there knows is wrong.
            room = [name for name in tracked() if name.startswith(module.partition(".")[0]) and name.endswith(".py")]
            known = "".join(text(name) for name in room)
            wrong += [
                f"{page}: {module} {option}"
                for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", rest)
                if f'"{option}"' not in known
            ]
    assert wrong == []


def commands(group: TyperGroup, *names: str) -> dict[tuple[str, ...], set[str]]:
    """The options of every command."""
    found: dict[tuple[str, ...], set[str]] = {}
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            found |= commands(command, *names, name)
        else:
            found[*names, name] = {option for each in command.params for option in (*each.opts, *each.secondary_opts)}
    return found


def test_every_command_of_spillway_that_is_named_is_one_and_has_the_options_that_are_named() -> None:
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    known = commands(group)
    groups = {names[0] for names in known if len(names) > 1}
    wrong, seen = [], 0
    for page, line in all_code():
        for rest in re.findall(r"^(?:\$ |\w+=\S+ )*(?:\.venv/bin/)?spillway ([a-z][^|;#]*)", line):
            words = rest.split()
            name = tuple(words[:2]) if words[0] in groups and len(words) > 1 else (words[0],)
            seen += 1
            if name not in known:
                if name[0] not in groups or len(name) > 1:
                    wrong.append(f"{page}: spillway {' '.join(name)}")
                continue
            options = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", rest))
            wrong += [f"{page}: spillway {' '.join(name)} {option}" for option in sorted(options - known[name])]
    assert seen > 30
    assert wrong == []


def test_every_environment_variable_of_ours_that_is_named_is_read() -> None:
    sources = "".join(
        text(path)
        for path in tracked()
        if not path.endswith((".md", ".jsonl", ".gz", ".npz", ".svg", ".png", ".bin", ".lock")) and "data/" not in path
    )
    known = set(re.findall(r"SPILLWAY_[A-Z_]*[A-Z]", sources))
    named = {(page, name) for page in pages() for name in re.findall(r"SPILLWAY_[A-Z_]*[A-Z]", text(page))}
    assert [each for each in sorted(named) if each[1] not in known] == []


def has(schema: Mapping[str, Any], names: list[str], definitions: Mapping[str, Any]) -> bool:
    """Whether the path leads somewhere; through lists and named things, as a page would say it."""
    if not names:
        return True
    if "$ref" in schema:
        return has(definitions[schema["$ref"].rpartition("/")[2]], names, definitions)
    branches = [*schema.get("anyOf", ()), *schema.get("oneOf", ()), *schema.get("allOf", ())]
    if isinstance(schema.get("items"), dict):
        branches.append(schema["items"])
    if isinstance(inside := schema.get("additionalProperties"), dict) and has(inside, names[1:], definitions):
        return True
    if names[0] in (properties := schema.get("properties", {})):
        return has(properties[names[0]], names[1:], definitions)
    return any(has(branch, names, definitions) for branch in branches)


def test_every_setting_that_is_named_is_one() -> None:
    schema = Settings.model_json_schema()
    sections = "|".join(schema["properties"])
    wrong, seen = [], 0
    for page in pages():
        for span in re.findall(r"`([^`]+)`", prose(page)):
            if re.fullmatch(rf"(?:{sections})(?:\.[a-z][a-z0-9_]*)+", span):
                seen += 1
                if not has(schema, span.split("."), schema.get("$defs", {})):
                    wrong.append(f"{page}: {span}")
    assert seen > 100
    assert wrong == []

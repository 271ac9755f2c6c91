"""The README says what the code does, and no tracked file says what only holds on one machine."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

from checks.exit_status import ExitStatus
from checks.row_checks.built_in import BUILT_IN
from checks.row_checks.rules import ROW_CHECK_NAMES
from checks.settings.check_names import CANARIES, TABLE_CHECKS
from checks.settings.integrity_toml import Settings, load_settings
from embedding_integrity.command import DOORS
from tests.chaos import all_cases

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
GUARANTEES = (REPOSITORY / "docs" / "guarantees.md").read_text(encoding="utf-8")
MAKEFILE = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
CONSTRAINTS = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8")

PIN = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)==(?P<version>[0-9][A-Za-z0-9.+!]*)")
A_TABLE = '[[tables]]\nname = "public.t"\ntext = "body"\n'
TOP_LEVEL = (
    ".dockerignore",
    ".gitignore",
    "Dockerfile",
    "Makefile",
    "README.md",
    "action.yml",
    "compose.yaml",
    "conftest.py",
    "constraints.txt",
    "integrity.example.toml",
    "pyproject.toml",
)
FOLDERS = (
    ".ci",
    "bench",
    "checks",
    "demo",
    "docs",
    "embedding_integrity",
    "remediation",
    "reports",
    "tests",
)
# Written in pieces, so that this file does not hold what it looks for.
REGISTRIES = re.compile(
    "|".join(
        ("py" + r"pi\.org", "python" + "hosted", "npm" + r"js\.", "--(extra-)?" + "index-url")
    ),
    re.IGNORECASE,
)
MACHINE_PATHS = re.compile("|".join(rf"(?<![\w.~-])/{top}/" for top in ("root", "home", "work")))


PAGES = (
    README,
    *((REPOSITORY / "docs" / name).read_text() for name in ("provider.md", "repair.md")),
)


def blocks(language: str, page: str = README) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def table_under(heading: str, first: str = "") -> list[str]:
    """The first cells of the table under a heading whose own heading begins so, without that."""
    section = README.split(f"\n### {heading}\n", 1)[1].split("\n#", 1)[0]
    table = section[section.index(f"| {first}") :].partition("\n\n")[0]
    cells = re.findall(r"^\| *(.*?) *\|", table, re.MULTILINE)
    return cells[2:]


def tracked_texts() -> Iterator[tuple[str, str]]:
    """Name and text of every file that belongs to the repository, whose history may not be here."""
    files = [REPOSITORY / name for name in TOP_LEVEL]
    files += [path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*")]
    for path in files:
        if path.is_file() and path.suffix not in (".png", ".pyc"):
            yield str(path.relative_to(REPOSITORY)), path.read_text(encoding="utf-8")


def pins() -> dict[str, str]:
    found = [PIN.fullmatch(line) for line in CONSTRAINTS.splitlines()]
    return {canonicalize_name(pin["name"]): pin["version"] for pin in found if pin}


def own_requirements() -> list[Requirement]:
    project = PROJECT["project"]
    lists = (project["dependencies"], *project["optional-dependencies"].values())
    requirements = [Requirement(line) for lines in lists for line in lines]
    return [each for each in requirements if each.name != project["name"]]


def test_readme_lists_every_option_of_ours(pytestconfig: pytest.Config) -> None:
    ours = pytestconfig._parser.getgroup("embedding integrity").options
    names = {name for option in ours for name in option.names()}
    assert {"--remediate", "--config"} <= names
    listed = {
        re.sub(r"[`=].*", "", cell.strip("`")) for cell in table_under("Command line", "Option")
    }
    assert listed == names


def test_readme_lists_every_door_of_the_command() -> None:
    listed = [cell.strip("`").split() for cell in table_under("Command line", "Door")]
    assert [words[1:] for words in listed] == [[], *([name] for name in DOORS)]


def test_every_option_in_readme_is_one_that_pytest_knows(pytestconfig: pytest.Config) -> None:
    parser = pytestconfig._parser
    known = {
        name
        for group in (*parser._groups, parser._anonymous)
        for option in group.options
        for name in option.names()
    }
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", README)) <= known


def test_the_table_of_exit_statuses_is_that_of_the_code() -> None:
    assert sorted(map(int, table_under("Exit status"))) == sorted(ExitStatus)


def test_the_table_of_checks_is_that_of_the_code() -> None:
    listed = [cell.strip("`") for cell in table_under("The checks")]
    built_in = [check.name for check in BUILT_IN]
    assert listed == [*TABLE_CHECKS, *built_in, *CANARIES, "your own"]


def test_every_make_target_in_readme_exists() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert phony is not None
    named = set(re.findall(r"(?:^ {4}|`)make ([a-z]+)", README, re.MULTILINE))
    assert {"demo", "test", "lint"} <= named <= set(phony[1].split())
    assert "    make demo " in README
    assert "    make test " in README


@pytest.mark.parametrize("block", [block for page in PAGES for block in blocks("toml", page)])
def test_the_settings_in_readme_and_its_pages_load(block: str, tmp_path: Path) -> None:
    path = tmp_path / "integrity.toml"
    path.write_text(block if "[[tables]]" in block else block + A_TABLE, encoding="utf-8")
    assert load_settings(path, row_checks=ROW_CHECK_NAMES).tables


def test_readme_shows_settings_in_several_blocks() -> None:
    assert len(blocks("toml")) >= 4


def test_every_settings_key_that_readme_names_by_its_section_exists() -> None:
    named = re.findall(r"`\[([a-z]+)\] ([a-z_]+)`", README)
    assert named
    for section, key in named:
        field = Settings.model_fields[section].annotation
        assert key in getattr(field, "model_fields", {}), f"[{section}] {key}"


def test_the_nightly_workflow_in_readme_is_yaml_and_reads_its_url_from_a_secret() -> None:
    (workflow,) = (YAML(typ="safe").load(block) for block in blocks("yaml"))
    (job,) = workflow["jobs"].values()
    (environment,) = (step["env"] for step in job["steps"] if "env" in step)
    assert environment == {"DATABASE_URL": "${{ secrets.REPLICA_DATABASE_URL }}"}


def test_every_file_that_readme_links_to_or_copies_exists() -> None:
    named = re.findall(r"\]\(([^)#:]+)\)", README) + re.findall(r"\bcp (\S+)", README)
    assert {"docs/incident-report.png", "integrity.example.toml"} <= set(named)
    for name in named:
        assert (REPOSITORY / name).is_file(), name


def test_every_promise_names_tests_and_cases_that_exist() -> None:
    promises = re.split(r"^## (?=[0-9]+\. )", GUARANTEES, flags=re.MULTILINE)[1:]
    assert [int(promise.partition(".")[0]) for promise in promises] == list(
        range(1, len(promises) + 1)
    )
    cases = [case.name for case in all_cases()]
    for promise in promises:
        named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", promise)
        assert named, promise
        for path, name in named:
            source = (REPOSITORY / path).read_text(encoding="utf-8")
            assert re.search(rf"^def {name}\(", source, re.MULTILINE), f"{path}::{name}"
        suite = promise.partition("- fault suite")[2]
        for pattern in re.findall(r"`([a-z-]+-\*)`", suite):
            assert fnmatch.filter(cases, pattern), pattern


def test_every_constraint_is_one_plain_pin() -> None:
    lines = CONSTRAINTS.splitlines()
    assert [line for line in lines if not PIN.fullmatch(line)] == []
    assert len(pins()) == len(lines)


def test_every_requirement_is_pinned_to_a_version_that_it_admits() -> None:
    for requirement in own_requirements():
        version = pins().get(canonicalize_name(requirement.name))
        assert version is not None, requirement
        assert requirement.specifier.contains(version), requirement


def test_what_the_requirements_require_is_pinned_as_well() -> None:
    waiting = [(each.name, frozenset(each.extras)) for each in own_requirements()]
    seen: set[tuple[str, frozenset[str]]] = set()
    while waiting:
        name, extras = entry = waiting.pop()
        if entry in seen:
            continue
        seen.add(entry)
        assert canonicalize_name(name) in pins(), name
        try:
            lines = requires(name) or []
        except PackageNotFoundError:  # a tool of `make lint`, which the tests do without
            continue
        waiting += [
            (needed.name, frozenset(needed.extras))
            for needed in map(Requirement, lines)
            if needed.marker is None
            or any(needed.marker.evaluate({"extra": extra}) for extra in (extras or {""}))
        ]
    assert len(seen) > len(own_requirements())


def test_build_requirements_are_pinned() -> None:
    assert all(PIN.fullmatch(line) for line in PROJECT["build-system"]["requires"])


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("-i https://" + "pypi" + ".org/simple", REGISTRIES),
        ("files." + "python" + "hosted.org", REGISTRIES),
        ("in /" + "work/main", MACHINE_PATHS),
        ('"/' + 'home/someone/x"', MACHINE_PATHS),
    ],
)
def test_the_patterns_find_what_they_are_for(text: str, pattern: re.Pattern[str]) -> None:
    assert pattern.search(text)


def test_no_file_names_a_package_registry_or_a_path_of_one_machine() -> None:
    texts = dict(tracked_texts())
    assert {"README.md", "Makefile", ".ci/run", "checks/row_checks/applied.py"} <= texts.keys()
    found = [
        f"{name}: {match[0]}"
        for name, text in texts.items()
        for pattern in (REGISTRIES, MACHINE_PATHS)
        for match in pattern.finditer(text)
    ]
    assert found == []

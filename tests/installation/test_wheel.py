"""The wheel holds everything, and its command works from a team's folder, whatever is there."""

from __future__ import annotations

import os
import tarfile
from typing import TYPE_CHECKING

from checks.exit_status import ExitStatus
from embedding_integrity.beside import PACKAGES
from tests.drivers.runs import MISSING, REPOSITORY, TENANTS, fill, missing
from tests.drivers.wheels import distributions, installed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.drivers.runs import Site

__all__ = ["distributions", "installed"]

pytest_plugins = ("pytester",)

IN_THEIR_WAY = {
    "checks/__init__.py": "raise SystemExit('the team\\'s checks were imported')",
    "reports.py": "raise SystemExit('the team\\'s reports were imported')",
    "conftest.py": "raise SystemExit('the team\\'s conftest.py was imported')",
    "pytest.ini": "[pytest]\naddopts = --no-such-option\n",
}


def files_in(folder: Path) -> set[str]:
    """Files below a folder, by their path from there."""
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }


def test_the_wheel_adds_one_package_which_holds_every_file_of_ours(installed: Path) -> None:
    added = {path.name for path in installed.iterdir() if path.suffix != ".dist-info"}
    assert added == {"embedding_integrity"}
    rootdir = installed / "embedding_integrity" / "rootdir"
    for package in PACKAGES:
        assert files_in(rootdir / package) == files_in(REPOSITORY / package)
    assert {"conftest.py", "pyproject.toml"} <= files_in(rootdir)


def test_the_source_distribution_holds_the_tests_and_the_documents(distributions: Path) -> None:
    (archive,) = distributions.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}
    for folder in (*PACKAGES, "embedding_integrity", "tests", "docs"):
        assert {f"{folder}/{name}" for name in files_in(REPOSITORY / folder)} <= names
    assert {"Makefile", "constraints.txt", "integrity.example.toml", "conftest.py"} <= names


def test_the_installed_command_plans_and_repairs_from_a_folder_with_names_of_its_own(
    provided_site: Site, installed: Path
) -> None:
    site = provided_site
    fill(site.database, dict.fromkeys(TENANTS, 2 * MISSING))
    for name, text in IN_THEIR_WAY.items():
        (site.folder / name).parent.mkdir(exist_ok=True)
        (site.folder / name).write_text(text, encoding="utf-8")
    site.monkeypatch.setenv("PYTHONPATH", str(installed))

    def command(*arguments: str) -> tuple[int, str]:
        with site.starter.start(
            "embedding_integrity",
            *arguments,
            folder=site.folder,
            environment=os.environ,
            output=site.folder / "output.txt",
        ) as run:
            return run.wait(300), run.printed()

    status, said = command("--remediate", "--dry-run")
    assert status == ExitStatus.FAILS, said
    assert f"rootdir: {installed}/embedding_integrity/rootdir" in said
    assert f"next, to repair {3 * MISSING} rows" in said

    status, said = command("--remediate")
    assert status == ExitStatus.HOLDS, said
    assert missing(site.database) == {}
    assert f"incident report: {site.report()}" in said
    assert '"embedding-integrity","--remediate"' in (
        site.report()
        .with_suffix(".json")
        .read_text(encoding="utf-8")
        .replace(" ", "")
        .replace("\n", "")
    )

    status, said = command("checks/test_rows.py", "-q", "-k", "acme")
    assert status == ExitStatus.HOLDS, said
    assert "test_tables" not in said

"""Beside a team's own tests: theirs run, and what is ours says clearly what is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from checks.exit_status import ExitStatus
from tests.drivers.runs import REPOSITORY, fill
from tests.drivers.wheels import distributions, installed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.drivers.runs import Outcome, Site

__all__ = ["distributions", "installed"]

pytest_plugins = ("pytester",)

CHECKS = str(REPOSITORY / "checks")
THEIR_TEST = "def test_of_theirs(): pass\n"
THEIR_TENANT = """
import pytest

def pytest_addoption(parser):
    parser.addoption("--tenant", default="none")

@pytest.fixture
def tenant(request):
    return request.config.getoption("--tenant")
"""


def write(site: Site, **texts: str) -> None:
    """Files of the team; a name's `__` is a slash."""
    for name, text in texts.items():
        path = site.folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text, encoding="utf-8")


def require_theirs_ran(run: Outcome, status: ExitStatus, reason: str) -> None:
    """Their one test passed, ours is one failing test, and nothing looks like an accident."""
    assert run.status == status, run.output
    assert "1 failed, 1 passed" in run.output
    assert f"the checks did not run: {reason}" in run.output
    assert "INTERNALERROR" not in run.output
    assert "Traceback" not in run.output


def test_the_checks_run_after_the_teams_own_tests(site: Site) -> None:
    fill(site.database, {"acme": 3}, missing=0)
    write(site, tests__test_theirs=THEIR_TEST)
    run = site.run_only("tests", CHECKS, "-v")
    assert run.status == ExitStatus.HOLDS, run.output
    assert "test_of_theirs PASSED" in run.output
    assert "test_rows[completeness-insights-acme" in run.output


def test_a_database_that_is_down_fails_one_test_of_ours(site: Site) -> None:
    write(site, tests__test_theirs=THEIR_TEST)
    site.monkeypatch.setenv("DATABASE_URL", "postgresql://someone:hunter2222@127.0.0.1:1/nothing")
    run = site.run_only("tests", CHECKS)
    require_theirs_ran(run, ExitStatus.NOTHING_EXAMINED, "cannot connect to database 'nothing'")
    assert "hunter2222" not in run.output


def test_missing_settings_fail_one_test_of_ours(site: Site) -> None:
    write(site, tests__test_theirs=THEIR_TEST)
    (site.folder / "integrity.toml").unlink()
    run = site.run_only("tests", CHECKS, "--junitxml=results.xml")
    require_theirs_ran(run, ExitStatus.USAGE_ERROR, "integrity.toml: no such file in")
    assert "no such file in" in (site.folder / "results.xml").read_text(encoding="utf-8")


def test_an_option_of_the_teams_keeps_its_meaning(site: Site) -> None:
    theirs = "def test_of_theirs(tenant): assert tenant == 'acme'\n"
    write(site, tests__conftest=THEIR_TENANT, tests__test_theirs=theirs)
    run = site.run_only("tests", CHECKS, "--tenant=acme")
    require_theirs_ran(run, ExitStatus.USAGE_ERROR, "--tenant of another conftest.py or plugin")


@pytest.mark.parametrize("name", ["checks", "reports"])
def test_a_package_of_the_teams_is_the_one_that_their_tests_import(site: Site, name: str) -> None:
    theirs = f"from {name}.answers import answer\n\ndef test_of_theirs(): assert answer == 42\n"
    write(site, **{f"{name}__answers": "answer = 42\n", "tests__test_theirs": theirs})
    run = site.run_only("tests", CHECKS)
    require_theirs_ran(run, ExitStatus.USAGE_ERROR, f"`{name}` in {site.folder}: packages of")


def test_workers_run_the_teams_tests_and_none_of_the_checks(site: Site) -> None:
    write(site, tests__test_theirs=THEIR_TEST)
    run = site.run_only("tests", CHECKS, "-n", "1")
    require_theirs_ran(run, ExitStatus.USAGE_ERROR, "-n is refused: every worker would scan")


def test_the_checks_alone_refuse_as_ever(site: Site) -> None:
    write(site, checks__answers="answer = 42\n")
    run = site.run_only(CHECKS)
    assert run.status == ExitStatus.USAGE_ERROR
    assert f"ERROR: `checks` in {site.folder}: packages of theirs" in run.output


def test_checks_that_are_only_come_across_are_an_error(site: Site, installed: Path) -> None:
    write(site, tests__test_theirs=THEIR_TEST)
    (site.folder / "vendored").symlink_to(installed / "embedding_integrity" / "rootdir")
    run = site.run_only()
    assert run.status == ExitStatus.INTERRUPTED, run.output
    assert "run only where pytest is asked for them" in run.output
    assert "INTERNALERROR" not in run.output

"""The command's doors, its page, and what it says of words it does not know."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from checks.exit_status import ExitStatus
from embedding_integrity.command import DOORS, Door, main
from embedding_integrity.run import NAME
from tests.drivers.runs import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path


def test_the_page_has_every_door_every_option_and_every_status(
    pytestconfig: pytest.Config, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--help"]) == ExitStatus.HOLDS
    page = capsys.readouterr().out
    ours = pytestconfig._parser.getgroup("embedding integrity").options
    for word in (*DOORS, *(name for option in ours for name in option.names())):
        assert f"\n  {word}" in page
    for status in ExitStatus:
        assert status.meaning in page
    assert max(map(len, page.splitlines())) <= 120


def test_every_door_is_a_module_that_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    for name in DOORS:
        with pytest.raises(SystemExit) as ended:
            main([name, "--help"])
        assert ended.value.code == 0
        assert f"usage: embedding-integrity {name}" in capsys.readouterr().out


@pytest.mark.parametrize("name", sorted(set(DOORS) - {"demo"}))
def test_wrong_usage_of_a_door_ends_as_wrong_usage_of_the_checks_does(name: str) -> None:
    # argparse's own 2 would mean that a run was interrupted.
    with pytest.raises(SystemExit) as ended:
        main([name, "--no-such-option"])
    assert ended.value.code == ExitStatus.USAGE_ERROR


@pytest.mark.parametrize("name", ["prevent", "worker", "admin"])
def test_a_door_without_settings_names_the_folder_that_it_was_run_from(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ADMIN_SECRET", "secret")
    monkeypatch.setenv("INTEGRITY_CONFIG", "")
    assert main([name]) == ExitStatus.USAGE_ERROR
    assert f"integrity.toml: no such file in {tmp_path}; run" in capsys.readouterr().err


def test_an_unknown_word_is_told_with_those_that_are_known(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["repair"]) == ExitStatus.USAGE_ERROR
    said = capsys.readouterr().err
    assert "expected an option or one of discover, demo" in said
    assert "found 'repair'" in said


def test_a_door_whose_packages_are_not_installed_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(DOORS, "worker", Door("no_such_package.worker", "…", extra="distributed"))
    assert main(["worker"]) == ExitStatus.USAGE_ERROR
    assert "pip install 'embedding-integrity[distributed]'" in capsys.readouterr().err


def test_where_prints_the_folder_that_pytest_is_given(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["where"]) == ExitStatus.HOLDS
    assert capsys.readouterr().out == f"{REPOSITORY / 'checks'}\n"


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == ExitStatus.HOLDS
    assert capsys.readouterr().out.startswith(f"{NAME} ")

"""The report's files: whole, for the owner alone, free of secrets."""

from __future__ import annotations

import json
import stat
from typing import TYPE_CHECKING

from checks.redaction import PLACEHOLDER, Redactor, redactor
from reports.outputs import files
from reports.values.incident import (
    Incident,
    ReportedFinding,
    Versions,
)
from tests.builders.incidents import (
    TABLE,
    incident,
    interrupted,
    not_examined,
)
from tests.drivers.page import Page

if TYPE_CHECKING:
    from pathlib import Path

    import pytest
from hypothesis import given
from hypothesis import strategies as st


def test_secrets_appear_neither_in_the_page_nor_in_the_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redactor, "_by_ending", {})
    key, password = 'sk-live"<&>7f3a', "pä$$ wörd"
    leaking = incident({f"tenant {key}": 3}, dead=(f"tenant {key}",)).model_copy(
        update={
            "headline": f"refused {key}",
            "interruption": f"postgresql://u:{password}@h/db and p%C3%A4%24%24%20w%C3%B6rd",
            "command": ("pytest", f"--token={key}"),
            "findings_before": (
                ReportedFinding(
                    table=TABLE, check="schema", message=key, sql=f"SELECT '{password}'"
                ),
            ),
            "versions": Versions(python=password, packages={key: password}),
        }
    )
    redactor.add(key)
    redactor.add(password)
    written = files.write(leaking, tmp_path)
    read = Incident.model_validate_json(written.json.read_bytes())
    for text in (Page(written.html.read_text()).text, repr(read), written.html.read_text()):
        assert "7f3a" not in text
        assert "rd@h" not in text
        assert "C3%B6rd" not in text
        assert "[redacted]" in text


def test_a_password_that_is_a_word_of_html_does_not_break_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redactor, "_by_ending", {})
    redactor.add("table")
    redactor.add("rows")
    redactor.add("repair")
    written = files.write(incident(), tmp_path)
    page = Page(written.html.read_text())
    assert page.strays == []
    assert "table" in page.elements
    assert Incident.model_validate_json(written.json.read_bytes()).mode == "repair"


def test_both_files_are_written_for_the_owner_alone_and_replaced_whole(tmp_path: Path) -> None:
    first = files.write(interrupted(), tmp_path / "new" / "incidents")
    again = files.write(incident(), tmp_path / "new" / "incidents")
    assert first == again
    folder = first.html.parent
    assert folder == tmp_path / "new" / "incidents" / "20260303-020000-ab12"
    names = ["incident.html", "incident.json", "incident.md", "message.json"]
    assert sorted(path.name for path in folder.iterdir()) == names
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert json.loads(again.json.read_text())["result"] == "whole"
    assert "Everything holds" in again.html.read_text()


def test_words_that_utf8_cannot_carry_do_not_prevent_the_report(tmp_path: Path) -> None:
    broken = Incident.model_validate(
        {**not_examined().model_dump(), "command": ("pytest", "caf\udce9"), "headline": "a\x00b"}
    )
    written = files.write(broken, tmp_path)
    assert "caf\\udce9" in Page(written.html.read_text()).text
    assert "A⟨U+0000⟩b" in Page(written.html.read_text()).text


@given(
    st.lists(st.text("ab", min_size=4, max_size=7), max_size=6),
    st.lists(st.text("abc", max_size=9), max_size=6),
)
def test_of_many_secrets_each_is_replaced_and_of_two_in_one_place_the_longer(
    secrets: list[str], pieces: list[str]
) -> None:
    register = Redactor()
    text = expected = "|".join([*pieces, *secrets])
    for secret in secrets:
        register.add(secret)
    for secret in sorted(set(secrets), key=lambda one: (-len(one), one)):
        expected = expected.replace(secret, PLACEHOLDER)
    assert not any(secret in register.clean(text) for secret in secrets)
    if len({len(secret) for secret in secrets}) == len(set(secrets)):
        assert register.clean(text) == expected

"""The last screen of a run: what fails, for whom, since when, and what to type."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from checks.columns import in_columns, wide
from checks.database.connection_url import parse_url
from checks.diagnosis.diagnosis import diagnose
from reports.terminal.failing_checks import failing_checks
from reports.terminal.screen import detail_lines, period, summary_lines
from tests.builders.tables import examined, run, settings, table

if TYPE_CHECKING:
    from checks.examination.examination import Examination

DECLARED = {"tenant": "tenant", "created_at": "created_at", "model_column": "model", "model": "m"}
LONG = "t" * 63


def filled(url: str, name: str, *rows: tuple[str, str | None, str]) -> None:
    run(
        url,
        f"CREATE TABLE {name} (id int PRIMARY KEY, tenant text, body text, model text,"
        " created_at timestamptz, embedding vector)",
    )
    for number, (tenant, vector, model) in enumerate(rows):
        stored = "NULL" if vector is None else f"'{vector}'"
        run(
            url,
            f"INSERT INTO {name} VALUES ({number}, '{tenant}', 'text {number}', '{model}',"
            f" '2026-11-17 21:40+00'::timestamptz + '{number} min', {stored})",
        )


def screen(examination: Examination, width: int = 80) -> list[str]:
    failing = failing_checks(examination.open_findings, examination)
    return [line for line, _ in summary_lines(failing, examination, width=width)]


def seen(url: str, *names: str, **keys: Any) -> Examination:
    return examined(url, *(table(name, **{**DECLARED, **keys}) for name in names))


def test_a_line_for_each_check_and_table_says_how_many_whose_and_since_when(database: str) -> None:
    filled(
        database,
        "docs",
        ("acme", None, "m"),
        ("acme", "[1,2]", "old"),
        ("globex", None, "m"),
        ("globex", "[1,2,3]", "m"),
    )
    assert screen(seen(database, "docs")) == [
        "check           table  failing  of rows  tenants  created (UTC)",
        "completeness    docs         2        4      2/2  17 Nov 21:40 to 21:42",
        "dimensionality  docs         1        4      1/2  17 Nov 2026 21:41",
        "  found: 2",
        "provenance      docs         1        4      1/2  17 Nov 2026 21:41",
        "  found: old",
        "in all 3 of 4 rows, of 2 of 2 tenants, in 1 of 1 table",
    ]


def test_the_window_that_holds_most_failing_rows_is_told_apart_from_the_first_and_the_last(
    database: str,
) -> None:
    kinds: list[str | None] = ["[1,2,3]"] * 300
    kinds[100:109] = [None] * 9
    kinds[280] = None
    filled(database, "docs", *[("acme", kind, "m") for kind in kinds])
    # Twelve days, of which nine hours are damaged.
    run(
        database,
        "UPDATE docs SET created_at = '2026-11-17 21:40+00'::timestamptz + id * interval '1h'",
    )
    examination = seen(database, "docs", checks={"uniqueness": {"enabled": False}})
    failing = failing_checks(examination.open_findings, examination)
    place, declared = parse_url(database, variable="DATABASE_URL"), table("docs", **DECLARED)
    diagnoses = diagnose(place, settings(declared), examination)
    lines = [line for line, _ in summary_lines(failing, examination, width=80, diagnoses=diagnoses)]
    assert lines[1:3] == [
        "completeness  docs        10      300      1/1  22 Nov 01:40 to 29 Nov 13:40",
        "  created mostly 22 Nov 01:40 to 09:40: 9 of 10",
    ]


def test_one_statement_shows_the_rows_of_all_tenants_that_fail(database: str) -> None:
    names = [f"tenant {number}" for number in range(30)]
    filled(database, "docs", *[(name, None, "m") for name in names])
    examination = seen(database, "docs")
    (failing,) = failing_checks(examination.open_findings, examination)
    lines = list(detail_lines(failing))
    assert "and 20 more tenants" in lines[1]
    assert lines[-1].count("SELECT") == 1
    assert failing.query is not None
    assert "tenant 7" not in failing.query


def test_the_statement_names_the_tenants_where_others_are_within_their_tolerance(
    database: str,
) -> None:
    rows = [("acme", None, "m"), ("globex", None, "m"), *[("globex", "[1,2,3]", "m")] * 3]
    filled(database, "docs", *rows)
    checks = {"completeness": {"min": 0.5}, "uniqueness": {"enabled": False}}
    examination = seen(database, "docs", checks=checks)
    (failing,) = failing_checks(examination.open_findings, examination)
    assert failing.failing == 1
    assert failing.query is not None
    assert "= 'acme'" in failing.query


def test_a_model_that_no_row_carries_is_suspected_to_be_a_mistake_of_the_settings(
    database: str,
) -> None:
    filled(database, "docs", ("acme", "[1,2,3]", "large"), ("globex", None, "m"))
    lines = screen(seen(database, "docs"))
    (suspected,) = [line for line in lines if "mistaken" in line]
    assert suspected.startswith(
        "no embedding of public.docs is of model 'm', all 1 row have another (large)"
    )
    run(database, "INSERT INTO docs VALUES (9, 'acme', 'x', 'm', now(), '[3,2,1]')")
    assert not [line for line in screen(seen(database, "docs")) if "mistaken" in line]


def test_many_failing_tables_leave_room_on_a_screen_of_24_lines(database: str) -> None:
    names = [f"t{number}_{LONG[:50]}" for number in range(14)]
    for name in names:
        filled(database, name, ("acme", None, "m"))
    lines = screen(seen(database, *names))
    assert len(lines) <= 20
    assert all(wide(line) <= 80 for line in lines)
    assert "… and 4 more checks, listed above" in lines


def test_columns_are_as_wide_as_what_people_see() -> None:
    lines = in_columns([("名前", "1"), ("e\u0301", "22")], width=80, right=(1,))
    assert lines == ["名前   1", "e\u0301     22"]
    (cut,) = in_columns([(LONG, "1")], width=20, cut=(0,))
    assert (wide(cut), cut[-4:]) == (20, "…  1")


def test_names_that_differ_at_their_end_alone_are_cut_in_the_middle() -> None:
    entries = [(f"notes (in public.vectors where part = {part!r})",) for part in ("head", "名前")]
    cut = in_columns(entries, width=20, cut=(0,))
    assert [(each.startswith("notes ("), each[-7:], wide(each)) for each in cut] == [
        (True, "'head')", 20),
        (True, "= '名前')", 20),
    ]
    assert in_columns([("aaaaaaaaaaa",), ("bbbbbbbbbbb",)], width=9, cut=(0,)) == [
        "aaaaaaaa…",
        "bbbbbbbb…",
    ]


def test_a_period_is_as_exact_as_it_is_short() -> None:
    begin = datetime(2026, 11, 17, 21, 40, tzinfo=UTC)
    assert period(begin, begin + timedelta(hours=8)) == "17 Nov 21:40 to 18 Nov 05:40"
    assert period(begin, begin + timedelta(days=60)) == "17 Nov 2026 to 16 Jan 2027"
    assert period(begin, None) == ""

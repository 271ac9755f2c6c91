"""The incident report: complete, bounded, and inert whatever the names are."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.wording import visible
from reports.page import html
from reports.values.incident import (
    Incident,
    LeftFinding,
    ProbeSummary,
    RepairSummary,
    ReportedFinding,
    Result,
    TimelineEvent,
)
from reports.values.tables import SegmentCounts, TableReport
from tests.builders.incidents import (
    BEGIN,
    EVERY_KIND,
    HIT,
    TABLE,
    failing_rows,
    incident,
    interrupted,
    not_examined,
    table_of,
)
from tests.drivers.page import Page


def page_of(whole: Incident, **changes: object) -> Page:
    """The page of an incident, with these values in place of its own."""
    return Page(html.render(whole.model_copy(update=changes)))


def test_a_whole_incident_says_so_in_words() -> None:
    page = page_of(incident())
    assert "382/382 rows re-embedded, 0 errors" in page.words
    assert "Everything holds" in page.words
    assert "Nothing is left: every check holds." in page.words
    assert "382 of 3,382 rows (11.3%) failed at least one check, in 1 of 2 tables." in page.words
    assert "5 of 8 tenants had affected rows: acme (214), globex (97), initech (48)" in page.words
    assert "3 healthy tenants not listed." in page.words
    assert "stark" not in page.text


def test_a_dead_key_is_told_with_tenant_reason_and_next_step() -> None:
    page = page_of(incident(dead=("globex",)))
    assert "Partly repaired, something is left" in page.words
    assert "97 rows still fail a check." in page.words
    assert "completeness in public.workflow_insights: 97 rows. For globex" in page.words
    assert "Why: the provider refused this tenant's key (401)" in page.words
    assert "Next step: ask the tenant for a valid key" in page.words


def test_an_interrupted_run_says_what_broke_and_that_counts_may_be_behind() -> None:
    page = page_of(interrupted())
    assert "the connection to the server was lost\nwhile batch 3 was written" in page.text
    assert "the counts may be behind the database" in page.words
    assert "what still fails is not proven: run the checks again." in page.words
    assert "Rows still failing not known" in page.words
    assert "The checks were not run a second time." in page.words
    assert "not examined again" in page.words


def test_what_could_not_be_examined_is_never_reported_as_healthy() -> None:
    page = page_of(not_examined())
    assert "Nothing could be examined" in page.words
    assert "nothing is known about the embeddings" in page.words
    assert "the server did not answer on port 1" in page.words
    assert page.words.count("The database could not be reached") == 1
    assert "Nothing was examined, so there is nothing to compare." in page.words
    assert "not reached" in page.words
    assert "None: the checks could not look." in page.words
    assert "Rows still failing" not in page.words
    assert "every check holds" not in page.words
    assert "passed every check" not in page.words


def test_a_run_that_broke_before_any_table_was_examined_claims_nothing_about_rows() -> None:
    page = page_of(interrupted(), tables=(), repair=None)
    assert "No table was examined, so nothing is known about the embeddings." in page.words
    assert "passed every check" not in page.words
    assert "Rows affected" not in page.words


def test_a_repair_that_wrote_nothing_leaves_the_counts_of_before() -> None:
    page = page_of(interrupted(), result=Result.STOPPED, interruption=None, repair=RepairSummary())
    assert "382 rows still fail a check." in page.words
    assert "not proven" not in page.words


def test_one_table_that_could_not_be_examined_is_among_what_is_left() -> None:
    blind = TableReport(name="public.secret", examined=False, error="permission denied")
    whole = incident()
    page = page_of(whole, tables=(*whole.tables, blind))
    assert "1 table could not be examined; nothing is known about it." in page.words
    assert "public.secret could not be examined" in page.words
    assert "Why: permission denied" in page.words


def test_hostile_names_are_inert_and_legible() -> None:
    page = page_of(EVERY_KIND["hostile"]())
    for text in (
        "'; DROP TABLE x; --",
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(1)>',
        "two↵lines",
        "Ж" * 300,
        "(empty)",
        "(no tenant)",
        "evil⟨U+202E⟩txt.exe",
        "bell⟨U+0007⟩ and zero⟨U+200B⟩width",
        "{{7*7}}",
        "{% raw %}",
        "</style><style>*{display:none}",
        "␣␣edges␣␣",
        "שלום",
    ):
        assert text in page.text
    assert page.elements.count("style") == 1
    assert "49" not in [piece.strip() for piece in page.pieces]
    assert not {"\u202e", "\u200b", "\x07"} & set(page.text)


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=40))
def test_no_text_from_outside_becomes_markup(text: str) -> None:
    plain = incident({"plain": 3}, dead=("plain",))
    finding = ReportedFinding(table=text, tenant=text, check=text, message=text, sql=text)
    hostile = {
        "headline": text,
        "interruption": text,
        "settings_file": text,
        "command": (text,),
        "findings_before": (finding,),
        "left": (LeftFinding(table=text, tenant=text, check=text, why=text, next_step=text),),
        "timeline": (TimelineEvent(time=BEGIN, text=text),),
    }
    page = page_of(plain, **hostile)
    blank = page_of(plain, **{**hostile, "interruption": "x"})
    assert page.unclosed == []
    assert page.strays == []
    assert page.elements.count("script") == 0
    assert page.elements.count("li") == blank.elements.count("li")
    assert visible(text).split() == [word for word in visible(text).split() if word in page.text]


def test_ten_thousand_failing_tenants_stay_small_and_say_what_is_left_out() -> None:
    source = html.render(EVERY_KIND["many"]())
    assert len(source.encode()) < 400_000
    page = Page(source)
    assert "9,988 affected tenants more: not shown here; the JSON report holds all." in page.words
    assert "tenant-09999" in page.text
    assert "tenant-05000" not in page.text


@pytest.mark.thorough
def test_ten_thousand_tables_with_long_names_stay_small_too() -> None:
    whole = incident()
    tables = tuple(
        table_of({f"{place:05}{'Ж' * 295}": 5}, left=None).model_copy(
            update={"name": f"tenant_{place:05}.documents", "segments_total": 1}
        )
        for place in range(10_000)
    )
    source = html.render(whole.model_copy(update={"tables": tables}))
    assert len(source.encode()) < 400_000
    assert "9,980 affected tables more: not shown here" in Page(source).words


def test_one_reason_shared_by_thousands_of_tenants_is_one_line() -> None:
    many = incident({f"t{place}": 2 for place in range(3_000)})
    left = tuple(
        LeftFinding(
            table=TABLE,
            tenant=f"t{place}",
            check="completeness",
            rows=2,
            why="no quota",
            next_step="raise it",
        )
        for place in range(3_000)
    )
    page = page_of(many, left=left)
    assert page.words.count("Why: no quota") == 1
    assert "completeness in public.workflow_insights: 6,000 rows." in page.words
    assert "and 2,995 more tenants" in page.words


def test_the_statements_of_a_finding_are_readable_without_a_click() -> None:
    source = html.render(incident())
    page = Page(source)
    assert failing_rows("acme") in page.text
    assert re.search(r"<details open>\s*<summary>[^\n]*completeness", source)
    assert "3 statements more" in page.words


def test_a_row_that_fails_two_checks_is_not_counted_twice() -> None:
    segment = SegmentCounts(tenant="a", rows=50, before={"freshness": 9, "provenance": 7})
    assert segment.failing_before.rows == 9
    assert not segment.failing_before.exact
    table = TableReport(
        name="t", tenant="x", rows=50, segments_total=1, segments=(segment,), embedding="e"
    )
    page = page_of(incident(), tables=(table,))
    assert "At least 9 of 50 rows" in page.words


def test_a_check_that_fails_only_after_the_repair_is_shown() -> None:
    segment = SegmentCounts(
        tenant="late", rows=10, before={"uniqueness": 0}, after={"uniqueness": 4}
    )
    table = TableReport(name="t", tenant="x", rows=10, segments_total=1, segments=(segment,))
    page = page_of(incident(), tables=(table,))
    assert "uniqueness 0 → 4" in page.words
    assert "4 rows still fail a check." in page.words


def test_a_table_without_tenants_speaks_of_rows_not_of_a_missing_tenant() -> None:
    segment = SegmentCounts(tenant=None, rows=10, before={"completeness": 4})
    table = TableReport(name="t", rows=10, segments_total=1, segments=(segment,))
    finding = ReportedFinding(table="t", check="completeness", message="4 rows", failing=4, rows=10)
    page = page_of(incident(), tables=(table,), findings_before=(finding,), repair=None, plan=None)
    assert "(all rows)" in page.text
    assert "(whole table)" in page.text
    assert "(no tenant)" not in page.text
    assert "Who was hit" not in page.text


def test_each_affected_table_has_its_own_time() -> None:
    old = table_of({"acme": 2}, left=None)
    segment = old.segments[0].model_copy(
        update={"first": datetime(2025, 1, 1, tzinfo=UTC), "last": datetime(2025, 1, 1, tzinfo=UTC)}
    )
    older = old.model_copy(update={"name": "public.macros", "segments": (segment,)})
    page = page_of(incident(), tables=(table_of(HIT, left=None), older))
    assert (
        "The affected rows of public.workflow_insights were created from"
        " 2026-03-02 02:00:00 to 05:00:00 UTC." in page.words
    )
    assert (
        "The affected rows of public.macros were created at 2025-01-01 00:00:00 UTC." in page.words
    )
    assert "The affected rows were created from 2026-03-02" in page_of(incident()).words


def test_tables_that_are_not_there_yet_are_named() -> None:
    page = page_of(incident(), absent=("public.axiom_chunks",))
    words = "Declared with required = false and not there yet: public.axiom_chunks."
    assert words in page.words
    assert "not there yet" not in page_of(incident()).words


def test_a_line_break_in_a_declared_expression_is_seen() -> None:
    table = table_of(HIT, left=None).model_copy(update={"text": "concat_ws(E'\n\n', title, body)"})
    page = page_of(incident(), tables=(table,))
    assert "concat_ws(E'↵↵', title, body)" in page.text


def test_creation_times_with_and_without_a_zone_are_shown_together() -> None:
    segments = (
        SegmentCounts(tenant="a", rows=9, before={"completeness": 1}, first=BEGIN, last=BEGIN),
        SegmentCounts(
            tenant="b", rows=9, before={"completeness": 1}, first=datetime(2026, 3, 1, 8, 0)
        ),
    )
    table = TableReport(name="t", tenant="x", rows=18, segments_total=2, segments=segments)
    page = page_of(incident(), tables=(table,))
    assert "2026-03-01 08:00:00 (no zone stored)" in page.words


def test_a_refused_probe_is_told_with_its_numbers_and_nan_refuses() -> None:
    whole = incident()
    assert whole.repair is not None
    probe = ProbeSummary(
        table=TABLE, tenant="acme", model="m", cosines=(0.71, float("nan")), least=0.99
    )
    repair = whole.repair.model_copy(update={"probes": (probe,)})
    page = page_of(whole, repair=repair, result=Result.STOPPED)
    assert "0.7100, nan" in page.words
    assert "refused" in page.words
    assert "The repair stopped early" in page.words
    assert ProbeSummary(table="t", model="m", cosines=(float("nan"),), least=0.99).refused
    assert not ProbeSummary(table="t", model="m", cosines=(0.99,), least=0.99).refused

"""The incident report: complete, bounded, and inert whatever the names are."""

from __future__ import annotations

import base64
import hashlib
import re
from datetime import UTC, datetime
from functools import cache

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


@cache
def made(kind: str) -> Incident:
    """An incident of a kind; one of ten thousand tenants takes seconds."""
    return EVERY_KIND[kind]()


@cache
def rendered(kind: str) -> str:
    """Its page, which takes as long."""
    return html.render(made(kind))


@pytest.fixture(params=EVERY_KIND)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_json_gives_the_same_incident_back(kind: str) -> None:
    sample = made(kind)
    assert Incident.model_validate_json(sample.model_dump_json()) == sample


def test_every_page_is_well_formed_without_script_and_asks_for_nothing(kind: str) -> None:
    page = Page(rendered(kind))
    assert page.unclosed == []
    assert page.strays == []
    assert not {"script", "img", "link", "iframe", "object", "form"} & set(page.elements)
    names = {name for name, _ in page.attributes}
    assert not {"src", "srcset", "style"} & names
    identifiers = {f"#{value}" for name, value in page.attributes if name == "id"}
    assert {value for name, value in page.attributes if name == "href"} <= identifiers
    assert not [name for name in names if name.startswith("on")]
    policy = next(value for _, value in page.attributes if "default-src" in value)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")


def test_the_style_sheet_is_the_one_that_the_policy_admits() -> None:
    source = html.render(incident())
    style = re.search(r"<style>(.*)</style>", source, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"'sha256-{digest}'" in source
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_every_page_is_accessible_in_structure(kind: str) -> None:
    page = Page(rendered(kind))
    assert ("lang", "en") in page.attributes
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    steps = zip(page.headings, page.headings[1:], strict=False)
    assert all(lower - upper <= 1 for upper, lower in steps)
    assert page.elements.count("table") == page.elements.count("caption")
    scopes = [value for name, value in page.attributes if name == "scope"]
    assert len(scopes) == page.elements.count("th")
    identifiers = [value for name, value in page.attributes if name == "id"]
    assert len(identifiers) == len(set(identifiers))


def test_sections_stand_in_the_order_a_reader_asks() -> None:
    source = html.render(incident(dead=("globex",)))
    order = ["verdict", "impact", "timeline", "diagnosis", "done", "verification", "prevention"]
    order.append("evidence")
    assert re.findall(r'<li><a href="#([\w-]+)"', source) == order
    assert re.findall(r'<h2 id="([\w-]+)"', source) == order


def test_a_whole_incident_says_so_in_words() -> None:
    page = Page(html.render(incident()))
    assert "382/382 rows re-embedded, 0 errors" in page.words
    assert "Everything holds" in page.words
    assert "Nothing is left: every check holds." in page.words
    assert "382 of 3,382 rows (11.3%) failed at least one check, in 1 of 2 tables." in page.words
    assert "5 of 8 tenants had affected rows: acme (214), globex (97), initech (48)" in page.words
    assert "3 healthy tenants not listed." in page.words
    assert "stark" not in page.text


def test_a_dead_key_is_told_with_tenant_reason_and_next_step() -> None:
    page = Page(html.render(incident(dead=("globex",))))
    assert "Partly repaired, something is left" in page.words
    assert "97 rows still fail a check." in page.words
    assert "completeness in public.workflow_insights: 97 rows. For globex" in page.words
    assert "Why: the provider refused this tenant's key (401)" in page.words
    assert "Next step: ask the tenant for a valid key" in page.words


def test_an_interrupted_run_says_what_broke_and_that_counts_may_be_behind() -> None:
    page = Page(html.render(interrupted()))
    assert "the connection to the server was lost\nwhile batch 3 was written" in page.text
    assert "the counts may be behind the database" in page.words
    assert "what still fails is not proven: run the checks again." in page.words
    assert "Rows still failing not known" in page.words
    assert "The checks were not run a second time." in page.words
    assert "not examined again" in page.words


def test_what_could_not_be_examined_is_never_reported_as_healthy() -> None:
    page = Page(html.render(not_examined()))
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
    page = Page(html.render(interrupted().model_copy(update={"tables": (), "repair": None})))
    assert "No table was examined, so nothing is known about the embeddings." in page.words
    assert "passed every check" not in page.words
    assert "Rows affected" not in page.words


def test_a_repair_that_wrote_nothing_leaves_the_counts_of_before() -> None:
    refused = interrupted().model_copy(
        update={"result": Result.STOPPED, "interruption": None, "repair": RepairSummary()}
    )
    page = Page(html.render(refused))
    assert "382 rows still fail a check." in page.words
    assert "not proven" not in page.words


def test_one_table_that_could_not_be_examined_is_among_what_is_left() -> None:
    blind = TableReport(name="public.secret", examined=False, error="permission denied")
    whole = incident()
    page = Page(html.render(whole.model_copy(update={"tables": (*whole.tables, blind)})))
    assert "1 table could not be examined; nothing is known about it." in page.words
    assert "public.secret could not be examined" in page.words
    assert "Why: permission denied" in page.words


def test_hostile_names_are_inert_and_legible() -> None:
    page = Page(rendered("hostile"))
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
    hostile = plain.model_copy(
        update={
            "headline": text,
            "interruption": text,
            "settings_file": text,
            "command": (text,),
            "findings_before": (
                ReportedFinding(table=text, tenant=text, check=text, message=text, sql=text),
            ),
            "left": (LeftFinding(table=text, tenant=text, check=text, why=text, next_step=text),),
            "timeline": (TimelineEvent(time=BEGIN, text=text),),
        }
    )
    blank = hostile.model_copy(update={"interruption": "x"})
    page = Page(html.render(hostile))
    assert page.unclosed == []
    assert page.strays == []
    assert page.elements.count("script") == 0
    assert page.elements.count("li") == Page(html.render(blank)).elements.count("li")
    assert visible(text).split() == [word for word in visible(text).split() if word in page.text]


def test_ten_thousand_failing_tenants_stay_small_and_say_what_is_left_out() -> None:
    source = rendered("many")
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
    page = Page(html.render(many.model_copy(update={"left": left})))
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
    page = Page(html.render(incident().model_copy(update={"tables": (table,)})))
    assert "At least 9 of 50 rows" in page.words


def test_a_check_that_fails_only_after_the_repair_is_shown() -> None:
    segment = SegmentCounts(
        tenant="late", rows=10, before={"uniqueness": 0}, after={"uniqueness": 4}
    )
    table = TableReport(name="t", tenant="x", rows=10, segments_total=1, segments=(segment,))
    page = Page(html.render(incident().model_copy(update={"tables": (table,)})))
    assert "uniqueness 0 → 4" in page.words
    assert "4 rows still fail a check." in page.words


def test_a_table_without_tenants_speaks_of_rows_not_of_a_missing_tenant() -> None:
    segment = SegmentCounts(tenant=None, rows=10, before={"completeness": 4})
    table = TableReport(name="t", rows=10, segments_total=1, segments=(segment,))
    finding = ReportedFinding(table="t", check="completeness", message="4 rows", failing=4, rows=10)
    page = Page(
        html.render(
            incident().model_copy(
                update={
                    "tables": (table,),
                    "findings_before": (finding,),
                    "repair": None,
                    "plan": None,
                }
            )
        )
    )
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
    page = Page(
        html.render(incident().model_copy(update={"tables": (table_of(HIT, left=None), older)}))
    )
    assert (
        "The affected rows of public.workflow_insights were created from"
        " 2026-03-02 02:00:00 to 05:00:00 UTC." in page.words
    )
    assert (
        "The affected rows of public.macros were created at 2025-01-01 00:00:00 UTC." in page.words
    )
    assert "The affected rows were created from 2026-03-02" in Page(html.render(incident())).words


def test_tables_that_are_not_there_yet_are_named() -> None:
    page = Page(html.render(incident().model_copy(update={"absent": ("public.axiom_chunks",)})))
    words = "Declared with required = false and not there yet: public.axiom_chunks."
    assert words in page.words
    assert "not there yet" not in Page(html.render(incident())).words


def test_a_line_break_in_a_declared_expression_is_seen() -> None:
    table = table_of(HIT, left=None).model_copy(update={"text": "concat_ws(E'\n\n', title, body)"})
    page = Page(html.render(incident().model_copy(update={"tables": (table,)})))
    assert "concat_ws(E'↵↵', title, body)" in page.text


def test_creation_times_with_and_without_a_zone_are_shown_together() -> None:
    segments = (
        SegmentCounts(tenant="a", rows=9, before={"completeness": 1}, first=BEGIN, last=BEGIN),
        SegmentCounts(
            tenant="b", rows=9, before={"completeness": 1}, first=datetime(2026, 3, 1, 8, 0)
        ),
    )
    table = TableReport(name="t", tenant="x", rows=18, segments_total=2, segments=segments)
    mixed = incident().model_copy(update={"tables": (table,)})
    assert "2026-03-01 08:00:00 (no zone stored)" in Page(html.render(mixed)).words


def test_a_refused_probe_is_told_with_its_numbers_and_nan_refuses() -> None:
    whole = incident()
    assert whole.repair is not None
    probe = ProbeSummary(
        table=TABLE, tenant="acme", model="m", cosines=(0.71, float("nan")), least=0.99
    )
    repair = whole.repair.model_copy(update={"probes": (probe,)})
    stopped = whole.model_copy(update={"repair": repair, "result": Result.STOPPED})
    page = Page(html.render(stopped))
    assert "0.7100, nan" in page.words
    assert "refused" in page.words
    assert "The repair stopped early" in page.words
    assert ProbeSummary(table="t", model="m", cosines=(float("nan"),), least=0.99).refused
    assert not ProbeSummary(table="t", model="m", cosines=(0.99,), least=0.99).refused

"""Charts, verdict, timeline and Markdown: right, bounded, and inert whatever the names are."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.diagnosis.facets import Count
from checks.diagnosis.window import window_of
from reports.page import charts, html, verdict
from reports.page.happened import happened
from reports.page.markdown import escaped, fenced, markdown
from reports.values.diagnosed import BARS, histogram
from reports.values.incident import Incident, LeftFinding, Result
from tests.builders.incidents import BEGIN, EVERY_KIND, HOSTILE, incident
from tests.drivers.page import Page

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def hour(number: int, failing: int, rows: int | None = None) -> Count:
    time = EPOCH + timedelta(hours=number)
    return Count(
        value=str(number),
        rows=failing if rows is None else rows,
        failing=failing,
        first=time if failing else None,
        last=time + timedelta(minutes=59) if failing else None,
    )


def test_charts_are_drawn_of_known_elements_alone_and_show_hostile_names_as_text() -> None:
    lines = [("" if name is None else name, 0.5 + n / 100, 1.0) for n, name in enumerate(HOSTILE)]
    drawn = charts.coverage_by_tenant(lines)
    assert drawn is not None
    tree = ElementTree.fromstring(drawn)
    assert {element.tag for element in tree.iter()} <= charts.ELEMENTS
    texts = [element.text or "" for element in tree.iter("text")]
    assert any(text.startswith("<script>alert") for text in texts)
    assert "(empty)" in texts
    assert not {"style", "href", "id"} & {key for element in tree.iter() for key in element.attrib}
    assert len(drawn) < 20_000


def test_a_page_with_charts_stays_small_and_well_formed() -> None:
    source = html.render(incident())
    page = Page(source)
    assert page.elements.count("svg") > page.elements.count("figure") == 3
    assert page.strays == []
    assert len(source) < 100_000


def test_a_page_without_the_charting_library_lacks_its_charts_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "vl_convert", None)
    page = Page(html.render(incident()))
    assert "figure" not in page.elements
    assert "Was it a migration?" in page.words


@settings(deadline=None)
@given(
    st.dictionaries(st.integers(0, 400_000), st.integers(0, 50), max_size=60),
    st.integers(0, 5),
)
def test_a_histogram_holds_every_failing_row_of_its_time_in_a_bounded_number_of_bars(
    counts: dict[int, int], outliers: int
) -> None:
    hours = [hour(number, failing, failing + outliers) for number, failing in counts.items()]
    _, times = histogram([one for one in hours if one.failing], None)
    assert sum(time.failing for time in times) == sum(counts.values())
    assert len(times) <= max(BARS, 60)
    window = window_of(hours)
    assert (window is None) == (not any(counts.values()))
    if window is not None:
        inside = [n for n in counts if window.first <= EPOCH + timedelta(hours=n) <= window.last]
        assert window.failing == sum(counts[n] for n in inside)
        assert window.failing >= 0.8 * sum(counts.values())


def test_the_verdict_says_how_many_for_whom_and_what_came_of_it() -> None:
    assert verdict.sentence(incident()) == (
        "382 of 3,382 rows (11.3%) failed, of 5 of 8 tenants; all of them are whole again"
    )
    left = incident(dead=("globex",))
    assert verdict.sentence(left).endswith("; 285 were repaired, and 97 still fail")
    assert verdict.severity(left) == ("major", "11.3% of the rows and 5 of 8 tenants")
    dry = incident().model_copy(
        update={"mode": "dry run", "result": Result.OPEN, "repair": None, "command": ("pytest",)}
    )
    assert verdict.next_command(dry) == "pytest --remediate"
    assert verdict.status(dry) == "open: a dry run, which writes nothing"
    checked = dry.model_copy(update={"mode": "check", "command": ("pytest", "--config=a b.toml")})
    assert verdict.next_command(checked) is None
    step = LeftFinding(
        table="t", check="freshness", why="open", next_step="see with pytest --remediate --dry-run"
    )
    checked = checked.model_copy(update={"left": (step,)})
    assert verdict.next_command(checked) == "pytest '--config=a b.toml' --remediate --dry-run"


def test_the_timeline_runs_from_the_onset_to_the_proof() -> None:
    found = happened(incident())
    assert [moment.what for moment in found.moments] == [
        "Last green run", "Onset", "Detected", "End of the damage", "This run", "Verified",
    ]  # fmt: skip
    assert found.to_repair == timedelta(days=1, seconds=83)
    late = incident()
    assert late.trend is not None
    trend = late.trend.model_copy(update={"first_red": None})
    found = happened(late.model_copy(update={"trend": trend}))
    assert found.to_detect == timedelta(days=1)
    assert found.moments[-1].time == BEGIN + timedelta(seconds=83)
    trend = late.trend.model_copy(update={"last_green": BEGIN - timedelta(hours=1)})
    found = happened(late.model_copy(update={"trend": trend}))
    assert [moment.what for moment in found.moments][:2] == ["First failing row", "Detected"]
    assert found.to_detect is None


@pytest.mark.parametrize("kind", [name for name in EVERY_KIND if name != "many"])
def test_markdown_of_every_kind_has_the_sections_of_the_page(kind: str) -> None:
    made: Incident = EVERY_KIND[kind]()
    text = markdown(made)
    assert re.findall(r"^## (.+)$", text, re.MULTILINE) == list(html.CONTENTS.values())
    assert "<script>" not in text.replace("```", "")
    assert len(text) < 60_000


@given(st.text(max_size=60))
def test_no_text_from_outside_is_obeyed_by_markdown(text: str) -> None:
    shown = escaped(text)
    assert "\n" not in shown
    assert not re.search(r"(?<!\\)[`*_\[\]|]", re.sub(r"\\\\", "", shown))
    assert "<" not in shown
    block = fenced(text).split("\n")
    assert block[0] == block[-1]
    assert block[0] not in block[1:-1]

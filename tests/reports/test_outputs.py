"""What other tools read of a run: JSON by its schema, metrics, summaries, messages."""

from __future__ import annotations

import json
import re
import stat
import xml.etree.ElementTree as ET
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from reports.outputs.github import MOST, workflow_commands
from reports.outputs.json_schema import incident_schema
from reports.outputs.message import LENGTH, message
from reports.outputs.openmetrics import openmetrics
from reports.outputs.tables_of_tests import pytest_html_results_table_row
from reports.page.sections import groups
from reports.values.incident import Incident, ReportedFinding
from reports.values.trend import Measured, MeasuredRun
from tests.builders.incidents import EVERY_KIND
from tests.drivers.runs import MISSING, ROWS, TENANTS, Site, fill

pytest_plugins = ("pytester",)

SCHEMA = Path(__file__).parents[2] / "docs" / "incident.schema.json"
SAMPLE = re.compile(r'embedding_integrity_(\w+)(?:\{table="(.*)",check="(.*)"\})? ([0-9.e+-]+)')


def published() -> dict[str, Any]:
    schema: dict[str, Any] = json.loads(SCHEMA.read_text())
    return schema


def test_the_published_schema_is_that_of_the_code() -> None:
    """Write it anew with `python -m reports.outputs.json_schema > docs/incident.schema.json`."""
    assert published() == incident_schema()
    Draft202012Validator.check_schema(published())


@pytest.mark.parametrize("kind", [name for name in EVERY_KIND if name != "many"])
def test_a_report_of_every_kind_keeps_to_the_published_schema(kind: str) -> None:
    validator = Draft202012Validator(published())
    written = json.loads(EVERY_KIND[kind]().model_dump_json())
    assert list(validator.iter_errors(written)) == []
    assert list(validator.iter_errors({**written, "added_later": 1})) == []
    assert list(validator.iter_errors({**written, "schema_version": 2})) != []


@given(st.text(max_size=30), st.text(max_size=30))
def test_metrics_are_one_line_each_whatever_the_names_are(table: str, check: str) -> None:
    one = Measured(table=table, check=check, rows=400, failing=7, holds=False)
    run = MeasuredRun(run_id="r", at=datetime(2026, 1, 1, tzinfo=UTC), checks=(one,))
    text = openmetrics(run, status=1, at=1.5)
    assert text.endswith("\n# EOF\n")
    lines = [line for line in text.split("\n") if line and not line.startswith("#")]
    found = {match[1]: match for line in lines if (match := SAMPLE.fullmatch(line)) is not None}
    assert len(found) == len(lines) == 7
    assert float(found["coverage_ratio"][4]) == 1 - 7 / 400

    def read(label: str) -> str:
        return re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), label)

    assert read(found["failing_rows"][2]) == table
    assert read(found["failing_rows"][3]) == check


def test_annotations_are_bounded_and_no_text_begins_another_command() -> None:
    findings = [
        ReportedFinding(
            table=f"t{n},x::y",
            check="completeness",
            message="a\n::error::b 100%",
            failing=n,
            rows=99,
        )
        for n in range(40)
    ]
    lines = list(workflow_commands(groups(findings)))
    assert len(lines) == MOST
    assert all(line.count("\n") == 0 for line in lines)
    assert lines[0] == ("::error title=completeness in t39%2Cx%3A%3Ay::a%0A::error::b 100%25")


@pytest.mark.parametrize("kind", [name for name in EVERY_KIND if name != "many"])
def test_a_message_is_short_and_calls_nobody(kind: str) -> None:
    text = json.loads(message(EVERY_KIND[kind]()))["text"]
    assert text.startswith("*Embedding integrity: ")
    assert len(text) <= LENGTH
    assert "<" not in text


def test_cells_for_pytest_html_are_escaped() -> None:
    report = pytest.TestReport(
        nodeid="x",
        location=("x", 0, "x"),
        keywords={},
        outcome="failed",
        longrepr=None,
        when="call",
        user_properties=[("tenant", "<script>alert(1)</script>"), ("tenant", "milder")],
    )
    cells = ["<td>result</td>", "<td>test</td>"]
    pytest_html_results_table_row(report, cells)
    assert cells[3] == "<td>&lt;script&gt;alert(1)&lt;/script&gt;</td>"
    report.user_properties += [("findings", 600), ("failing_in_all", 1_200)]
    cells = ["<td>result</td>", "<td>test</td>"]
    pytest_html_results_table_row(report, cells)
    assert cells[3:] == ["<td>600 findings</td>", "<td>1200</td>"]


def test_all_outputs_of_a_nightly_run_say_the_same(site: Site) -> None:
    fill(site.database, {**dict.fromkeys(TENANTS, ROWS), "<b>": ROWS}, missing=MISSING)
    site.monkeypatch.setenv("GITHUB_ACTIONS", "true")
    site.monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(site.folder / "summary.md"))
    run = site.run(
        "--report", "--metrics=out.prom", "--junitxml=out.xml", "--html=out.html",
        "--self-contained-html",
    )  # fmt: skip
    assert run.status == 1
    failing, rows = 4 * MISSING, 4 * ROWS
    page = site.report()
    written = json.loads(page.with_suffix(".json").read_text())
    assert list(Draft202012Validator(published()).iter_errors(written)) == []
    assert Incident.model_validate(written).failing_before.rows == failing
    listed = (page.parent / "failing-keys.jsonl").read_text().splitlines()
    assert len({json.loads(line)["key"] for line in listed}) == len(listed) == failing
    assert '<a href="failing-keys.jsonl">' in page.read_text()
    assert written["settings"]["tables[public.insights].text"] == '"body"'
    metrics = (site.folder / "out.prom").read_text()
    labels = '{table="public.insights",check="completeness"}'
    assert f"embedding_integrity_failing_rows{labels} {failing}\n" in metrics
    assert f"embedding_integrity_rows{labels} {rows}\n" in metrics
    assert stat.S_IMODE((site.folder / "out.prom").stat().st_mode) == 0o644
    for text in ((site.folder / "summary.md").read_text(), page.with_suffix(".md").read_text()):
        assert f"{failing} of {rows} rows" in text
    assert run.output.count("::error title=completeness in public.insights::16 rows of 4") == 1
    assert f"{failing} of {rows} rows" in (page.parent / "message.json").read_text()
    cases = list(ET.parse(site.folder / "out.xml").getroot().iter("testcase"))
    assert {case.get("classname") for case in cases} == {"public.insights"}
    assert all(float(case.get("time") or 0) > 0 for case in cases)
    scan = written["tables"][0]["scan_seconds"]
    assert scan <= sum(float(case.get("time") or 0) for case in cases) + 0.001 * len(cases)
    told = [{p.get("name"): p.get("value") for p in case.iter("property")} for case in cases]
    assert all(one["table"] == "public.insights" and one["check"] for one in told)
    assert sum(int(one.get("failing") or 0) for one in told) == failing
    table = (site.folder / "out.html").read_text()
    assert "<th>Tenant</th>" in table
    assert "<td><b></td>" not in table


def test_a_green_run_leaves_a_short_summary_and_metrics(site: Site) -> None:
    fill(site.database, {"acme": ROWS}, missing=0)
    site.monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(site.folder / "summary.md"))
    run = site.run("--metrics=out.prom")
    assert run.status == 0
    assert "every check holds" in (site.folder / "summary.md").read_text()
    assert "embedding_integrity_exit_status 0\n" in (site.folder / "out.prom").read_text()
    assert not (site.folder / "incidents").exists()

"""The project of --gx-dir: what Great Expectations reads there, and what it never holds."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from checks.examination.gx_project import ForeignProjectError, write_project
from checks.expectations import engine
from checks.redaction import redactor
from tests.builders.tables import DOCS, HOSTILE_TENANTS, examined, run, settings, table
from tests.drivers.canaries import drift
from tests.drivers.runs import TENANTS, Site, fill

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from great_expectations.core import ExpectationSuiteValidationResult

pytest_plugins = ("pytester",)

CHECKED = table(tenant="tenant", where="NOT archived", checks={"completeness": {"min": 0.5}})


def opened(root: Path) -> Any:
    """The project as Great Expectations opens it."""
    engine.load()
    from great_expectations import get_context

    return get_context(mode="file", project_root_dir=root)


def results(root: Path) -> dict[str, list[ExpectationSuiteValidationResult]]:
    """Every result that is stored in a project, by suite, the oldest first."""
    store = opened(root).validation_results_store
    found: dict[str, list[ExpectationSuiteValidationResult]] = {}
    for key in sorted(store.list_keys(), key=lambda key: str(key.run_id.run_time)):
        found.setdefault(key.expectation_suite_identifier.name, []).append(store.get(key))
    return found


def refused(result: ExpectationSuiteValidationResult) -> dict[str, list[tuple[str, str]]]:
    """Table and tenant of the segments that a stored result refuses, by check."""
    return {
        answer.expectation_config.meta["check"]: [
            (segment["table"], segment["tenant"])
            for segment in answer.result["unexpected_index_list"]
        ]
        for answer in result.results
        if answer.expectation_config and "check" in answer.expectation_config.meta
    }


def filled(database: str, missing: Mapping[str | None, int], *, rows: int = 4) -> None:
    """`docs` with as many rows for each tenant, of which some have no embedding."""
    run(database, "CREATE EXTENSION IF NOT EXISTS vector", DOCS)
    with psycopg.connect(database) as connection:
        for number, (tenant, without) in enumerate(missing.items()):
            for row in range(rows):
                connection.execute(
                    "INSERT INTO docs (id, tenant, body, embedding) VALUES (%s, %s, %s, %s)",
                    (
                        number * rows + row,
                        tenant,
                        f"text {number} {row}",
                        None if row < without else f"[1,{number},{row}]",
                    ),
                )


READER = """
import json, os, sys
touched = []
def listen(event, arguments):
    if event in {"socket.connect", "socket.getaddrinfo"}:
        touched.append((event, str(arguments)))
sys.addaudithook(listen)
import great_expectations
context = great_expectations.get_context(mode="file", project_root_dir=sys.argv[1])
stored = [
    context.validation_results_store.get(key).success
    for key in context.validation_results_store.list_keys()
]
pages = context.build_data_docs()
definition = context.validation_definitions.get("public.docs")
again = definition.run(expectation_parameters={"segments_seen": 3})
print(json.dumps({
    "suites": [suite.name for suite in context.suites.all()],
    "definitions": [definition.name for definition in context.validation_definitions.all()],
    "results": stored,
    "again": again.success,
    "pages": list(pages),
    "analytics": context.config.analytics_enabled,
    "touched": touched,
}))
"""


def test_great_expectations_opens_the_project_runs_it_and_builds_its_pages_without_a_network(
    database: str, tmp_path: Path
) -> None:
    filled(database, {"acme": 1, "globex": 3, None: 0})
    write_project(tmp_path / "out", examined(database, CHECKED).tables)

    reader = subprocess.run(
        [sys.executable, "-B", "-c", READER, str(tmp_path / "out")],
        cwd=tmp_path,
        env=os.environ | {"HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )

    assert json.loads(reader.stdout) == {
        "suites": ["public.docs"],
        "definitions": ["public.docs"],
        "results": [False],
        "again": False,
        "pages": ["local_site"],
        "analytics": False,
        "touched": [],
    }
    site = tmp_path / "out" / "gx" / "uncommitted" / "data_docs" / "local_site"
    (suite_page,) = site.glob("expectations/public/docs.html")
    (result_page,) = site.glob("validations/public/docs/**/*.html")
    for page in (suite_page, result_page):
        shown = page.read_text(encoding="utf-8")
        assert "completeness: at least 50% of each segment's rows hold" in shown
    assert "globex" in result_page.read_text(encoding="utf-8")
    assert "acme" not in result_page.read_text(encoding="utf-8")


def test_the_results_refuse_the_segments_that_the_run_reports(
    database: str, tmp_path: Path
) -> None:
    filled(database, {tenant: n % 4 for n, tenant in enumerate((*HOSTILE_TENANTS, None))})
    examination = examined(database, CHECKED)

    write_project(tmp_path, examination.tables)

    ((result,),) = results(tmp_path).values()
    failing = {f.tenant for f in examination.findings if f.check == "completeness"}
    named = refused(result)["completeness"]
    assert {table for table, _ in named} == {"public.docs"}
    assert len(named) == len(set(named)) == len(failing)
    # The names are escaped as in Python, but for markup and `$`; NULL alone stands without quotes.
    assert {eval(tenant, {"NULL": None}) for _, tenant in named} == failing
    assert result.success is False


def test_no_markup_of_a_name_reaches_the_pages(database: str, tmp_path: Path) -> None:
    filled(database, dict.fromkeys(HOSTILE_TENANTS, 4))
    custom = [{"name": "tagged", "failing_when": "body <> '<script>alert(2)</script> $x'"}]
    examination = examined(database, table(tenant="tenant", custom=custom))

    write_project(tmp_path, examination.tables)
    opened(tmp_path).build_data_docs()

    pages = [page.read_text(encoding="utf-8") for page in (tmp_path / "gx").rglob("*.html")]
    assert len(pages) == 3
    assert not any("<script>alert" in page for page in pages)
    for shown in ("\\x3cscript\\x3ealert(1)", "\\x3cscript\\x3ealert(2)", "\\x24x"):
        assert any(shown in page for page in pages), shown


def test_a_secret_is_in_no_file_of_the_project(database: str, tmp_path: Path) -> None:
    secret = "sk-of-a-tenant-9b1d55"
    redactor.add(secret)
    filled(database, {f"acme {secret}": 4, "globex": 0})
    custom = [{"name": "leaks", "failing_when": f"body = '{secret}'"}]

    write_project(tmp_path, examined(database, table(tenant="tenant", custom=custom)).tables)
    opened(tmp_path).build_data_docs()

    written = [path for path in (tmp_path / "gx").rglob("*") if path.is_file()]
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in written]
    assert not any(secret in text for text in texts)
    assert any("acme [redacted]" in text for text in texts)


def test_a_later_run_replaces_suites_and_counts_and_adds_its_results(
    database: str, tmp_path: Path
) -> None:
    filled(database, {"acme": 4})
    write_project(tmp_path / "first", examined(database, CHECKED).tables)
    shutil.move(tmp_path / "first", tmp_path / "moved")
    run(database, "UPDATE docs SET embedding = '[1,2,3]'")
    entry = table(tenant="tenant", checks={"completeness": {"severity": "warning"}})

    write_project(tmp_path / "moved", examined(database, entry).tables)

    (of_docs,) = results(tmp_path / "moved").values()
    assert [refused(result)["completeness"] for result in of_docs] == [
        [("public.docs", "'acme'")],
        [],
    ]
    (suite,) = opened(tmp_path / "moved").suites.all()
    assert {
        one.meta["min"]: one.severity.value
        for one in suite.expectations
        if (one.meta or {}).get("check") == "completeness"
    } == {"1": "warning"}


def test_a_table_that_could_not_be_measured_is_a_suite_that_fails(
    database: str, tmp_path: Path
) -> None:
    filled(database, {"acme": 1})  # whose text has to be looked at
    broken = "CREATE VIEW broken AS SELECT id, (1 / (id - id))::text AS body, embedding FROM docs"
    run(database, broken)

    examination = examined(database, table("docs"), table("broken", key=["id"]))
    assert "division by zero" in (examination.table("public.broken").error or "")
    write_project(tmp_path, examination.tables)

    stored = {name: [one.success for one in found] for name, found in results(tmp_path).items()}
    assert stored == {"public.docs": [False], "public.broken.not_measured": [False]}


def test_segments_that_a_canary_could_not_look_at_are_missing_and_not_held(
    database: str, tmp_path: Path
) -> None:
    filled(database, {"acme": 0})
    looked = drift(database, settings(table(tenant="tenant")), keys={})
    assert looked.held() == {"acme": False}
    assert "could not look" in looked.table.findings[0].says

    write_project(tmp_path, [looked.table])

    (result,) = results(tmp_path)["public.docs.drift"]
    (every_segment,) = (one for one in result.results if not one.success)
    assert every_segment.result == {"observed_value": 0}
    assert every_segment.expectation_config is not None
    assert every_segment.expectation_config.kwargs["value"] == 1


@pytest.mark.parametrize("theirs", ["gx/great_expectations.yml", "great_expectations/x.yml"])
def test_a_project_of_somebody_else_is_left_alone(
    database: str, tmp_path: Path, theirs: str
) -> None:
    filled(database, {"acme": 0})
    (tmp_path / theirs).parent.mkdir()
    (tmp_path / theirs).write_text("theirs", encoding="utf-8")
    tables = examined(database, CHECKED).tables

    with pytest.raises(ForeignProjectError, match="these checks did not write it"):
        write_project(tmp_path, tables)

    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path.read_text(encoding="utf-8") for path in files] == ["theirs"]


def test_what_else_is_in_the_folder_stays(database: str, tmp_path: Path) -> None:
    filled(database, {"acme": 0})
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")

    folder = write_project(tmp_path, examined(database, CHECKED).tables)

    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "mine"
    assert folder == tmp_path / "gx"
    assert folder.stat().st_mode & 0o077 == 0


def test_a_run_writes_the_state_after_its_repair(provided_site: Site) -> None:
    fill(provided_site.database, dict.fromkeys(TENANTS, 12))

    before = provided_site.run("--gx-dir=expectations")
    assert before.status == 1, before.output
    assert "Great Expectations project: " in before.output
    after = provided_site.run("--remediate", "--gx-dir=expectations")
    assert after.status == 0, after.output

    (of_insights,) = results(provided_site.folder / "expectations").values()
    first, second = (refused(result)["completeness"] for result in of_insights)
    assert first == [("public.insights", f"'{tenant}'") for tenant in TENANTS]
    assert second == []
    place = provided_site.database.partition("@")[2] or provided_site.database
    secrets = [*provided_site.keys.values(), provided_site.database, place]
    for path, text in provided_site.everything_written():
        if "expectations" in path.parts:
            assert not any(secret in text for secret in secrets), path


def test_a_run_that_would_write_into_a_strange_project_is_refused_before_it_looks(
    site: Site,
) -> None:
    (site.folder / "gx").mkdir()
    (site.folder / "gx" / "theirs.yml").write_text("theirs", encoding="utf-8")
    site.monkeypatch.setenv("DATABASE_URL", "postgresql://nobody@127.0.0.1:1/nothing")

    outcome = site.run("--gx-dir=.")

    assert outcome.status == 4
    assert "these checks did not write it; name another folder for --gx-dir" in outcome.output

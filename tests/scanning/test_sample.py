"""A sampled scan reads the vectors of a share of the rows, and says how much that tells."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np
import pytest

from checks.items.cases import cases_of
from checks.items.judgements import judge
from checks.row_checks.applied import applied_checks
from checks.scanning.part import part_of
from checks.scanning.sample import Sample, failing_between, parse_percent
from checks.scanning.scan_statement import compile_scan
from tests.builders.stores import DECLARED, INSIGHTS, STORE
from tests.builders.tables import DOCS, examined, looking, run, table
from tests.drivers.runs import fill

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.drivers.runs import Site

pytest_plugins = ("pytester",)

ROWS = 4_000
TENTH = Sample(percent=Decimal(10), seed=7)
FILL = f"""
INSERT INTO docs SELECT i, CASE WHEN i % 1000 = 0 THEN 'small' ELSE 'large' END, 'body of ' || i,
    CASE WHEN i % 4 = 1 THEN '[0,0,0]' WHEN i % 400 <> 2 THEN format('[1,2,%s]', i)::vector END
FROM generate_series(1, {ROWS}) AS i
"""
"""A quarter has no direction; of 4,000 rows 10 have no embedding."""


@pytest.fixture
def docs(database: str) -> str:
    run(database, DOCS, FILL)
    return database


def test_vectors_of_a_share_are_read_and_everything_else_is_counted_whole(docs: str) -> None:
    custom = [
        {"name": "long", "failing_when": "embedding <-> '[0,0,0]' > 3000"},
        {"name": "odd", "failing_when": "embedding IS NOT NULL AND id % 2 = 1"},
    ]
    (seen,) = examined(docs, table(custom=custom), sample=TENTH).tables
    assert seen.part.sampled == {"degenerate", "uniqueness", "long"}
    assert (seen.failing("completeness"), seen.failing("odd")) == (10, ROWS // 2)
    (measurement,) = seen.measurements
    assert measurement.rows == ROWS
    assert measurement.sampled is not None
    assert 300 < measurement.sampled < 500
    assert 0.2 < seen.failing("degenerate") / measurement.sampled < 0.3
    (finding,) = seen.findings_of("degenerate")
    low, high = failing_between(finding.failing, measurement.sampled, ROWS)
    assert low < ROWS // 4 < high
    message = finding.message
    assert f"degenerate: {finding.failing} of {measurement.sampled} sampled rows" in message
    assert f"sample of 10 %: {measurement.sampled} of 4,000 rows were read" in message
    assert f"{low:,} to {high:,} of all fail, with 95 % confidence" in message


def test_a_sample_without_a_failing_row_is_green_and_says_how_many_may_fail(docs: str) -> None:
    run(docs, "UPDATE docs SET embedding = '[1,2,3]' WHERE id % 4 = 1")
    examination = examined(docs, table(tenant="tenant"), sample=TENTH)
    (seen,) = examination.tables
    (case,) = (
        one for one in cases_of(examination) if (one.check, one.tenant) == ("degenerate", "large")
    )
    judgement = judge(case, examination)
    assert (judgement.findings, judgement.not_there) == ((), None)
    assert "none fails: at most" in (judgement.bound or "")
    assert any(words.startswith("degenerate: sample of 10 %") for words in seen.looked_at)


def test_a_tenant_of_whom_no_row_was_sampled_is_neither_green_nor_red(docs: str) -> None:
    rare = Sample(percent=Decimal("0.5"), seed=1)
    examination = examined(docs, table(tenant="tenant"), sample=rare)
    (seen,) = examination.tables
    assert seen.measurement("small").sampled == 0
    judged = {(c.check, c.tenant): judge(c, examination) for c in cases_of(examination)}
    for check in ("degenerate", "uniqueness"):
        reason = judged[check, "small"].not_there
        assert reason == "no row of tenant 'small' in public.docs was sampled"
    assert judged["degenerate", "large"].findings
    assert judged["completeness", "small"].not_there is None


def test_a_shared_vector_is_a_lower_bound_that_says_what_may_go_unseen(docs: str) -> None:
    run(docs, "UPDATE docs SET embedding = '[5,5,5]' WHERE id % 4 <> 3")
    (seen,) = examined(docs, table(), sample=TENTH).tables
    (finding,) = seen.findings_of("uniqueness")
    assert 200 < finding.failing < 400
    assert f"at least {finding.failing} rows fail" in finding.message
    assert "fewer than 48 rows may go unseen" in finding.message


def test_an_acceptance_is_kept_where_a_sample_shows_no_failing_row(docs: str) -> None:
    run(docs, "UPDATE docs SET embedding = '[1,2,3]' WHERE id % 4 = 1")
    accept = [{"tenant": "large", "rows": 1, "until": "U", "reason": "r"}]
    declared = table(tenant="tenant", checks={"degenerate": {"accept": accept}})
    declared = declared.replace('"U"', "2999-01-01")
    assert examined(docs, declared).idle
    assert not examined(docs, declared, sample=TENTH).idle


def test_the_same_rows_are_taken_until_the_seed_is_another(docs: str) -> None:
    def found(seed: int) -> tuple[int, ...]:
        sample = Sample(percent=Decimal(10), seed=seed)
        (seen,) = examined(docs, table(), sample=sample).tables
        return seen.failing("degenerate"), seen.measurements[0].sampled or 0

    assert found(1) == found(1)
    assert len({found(seed) for seed in (1, 2, 3, 4)}) > 1


def test_vectors_that_are_not_sampled_are_not_fetched(each_database: str) -> None:
    run(
        each_database,
        "CREATE TABLE docs (id int PRIMARY KEY, body text, embedding vector(1536))",
        "INSERT INTO docs SELECT i, 'b' || i,"
        " (SELECT array_agg(random()) FROM generate_series(1, 1536) WHERE i > 0)::vector(1536)"
        " FROM generate_series(1, 1000) AS i",
        "VACUUM ANALYZE docs",
    )
    declared = table(dimensions=1536)

    def blocks(sample: Sample | None, names: Sequence[str] | None = None) -> int:
        with looking(each_database, declared) as looker:
            (target,) = looker.targets()
            checks = [c for c in applied_checks(target) if names is None or c.name in names]
            part, asked = part_of(target, checks, sample=sample)
            statement = compile_scan(target, asked, part=part).as_string(None)
            row = looker.connection.execute(
                f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
            ).fetchone()
        assert row is not None
        top = row[0][0]["Plan"]
        return int(top["Shared Hit Blocks"] + top["Shared Read Blocks"])

    without = blocks(None, ["completeness"])
    share = (blocks(TENTH) - without) / (blocks(None) - without)
    assert 0.05 < share < 0.16


@pytest.mark.parametrize("layout", ["view", "store", "partitions"])
def test_rows_are_sampled_whatever_holds_them(database: str, layout: str) -> None:
    if layout == "store":
        run(database, INSIGHTS, STORE)
        run(
            database,
            "INSERT INTO insights SELECT i, 'a', 'b' || i FROM generate_series(1, 2000) AS i",
            "INSERT INTO insight_embeddings SELECT id, '[0,0,0]' FROM insights",
        )
        declared = table("insights", store=DECLARED)
    elif layout == "view":
        run(database, DOCS, FILL, "CREATE VIEW shown AS SELECT body, embedding FROM docs")
        declared = table("shown")
    else:
        columns = "(id int, tenant text, body text, embedding vector) PARTITION BY HASH (id)"
        parts = (f"FOR VALUES WITH (MODULUS 2, REMAINDER {i})" for i in range(2))
        run(database, f"CREATE TABLE docs {columns}")
        run(database, *(f"CREATE TABLE d{i} PARTITION OF docs {p}" for i, p in enumerate(parts)))
        run(database, FILL)
        declared = table()
    (seen,) = examined(database, declared, sample=TENTH).tables
    (measurement,) = seen.measurements
    assert measurement.sampled is not None
    assert 0.07 < measurement.sampled / measurement.rows < 0.13
    assert 0 < seen.failing("degenerate") <= measurement.sampled


def test_the_interval_holds_the_truth_at_least_as_often_as_it_says() -> None:
    chance = np.random.default_rng(3)
    for rows, truth, sampled in ((10_000, 40, 300), (10_000, 5_000, 100), (500, 20, 250)):
        hits = 0
        for _ in range(400):
            failing_seen = int(chance.hypergeometric(truth, rows - truth, sampled))
            low, high = failing_between(failing_seen, sampled, rows)
            hits += low <= truth <= high
        assert hits >= 0.94 * 400


def test_the_interval_is_exact_where_every_row_was_read_and_wide_where_none_was() -> None:
    assert failing_between(3, 10, 10) == (3, 3)
    assert failing_between(0, 0, 50) == (0, 50)
    assert failing_between(0, 1_000, 100_000) == (0, 369)  # 1 - 0.025 ** (1 / 1000) of them


def test_a_run_shows_what_a_sample_tells_on_the_terminal_and_to_machines(site: Site) -> None:
    fill(site.database, {"acme": 60}, missing=0)
    run(site.database, "UPDATE insights SET embedding = NULL WHERE id = 1")
    outcome = site.run("--sample=50", "--junitxml=checks.xml")
    assert outcome.status == 1, outcome.output
    assert "public.insights: degenerate: sample of 50 %: " in outcome.output
    assert "completeness: 1 of 60 rows of tenant 'acme'" in outcome.output
    xml = (site.folder / "checks.xml").read_text(encoding="utf-8")
    assert xml.count('name="bound" value="sample of 50 %: ') == 2


@pytest.mark.parametrize("written", ["1", "0.5", "100", " 12.5% ", "1e-3"])
def test_a_share_is_a_percentage(written: str) -> None:
    assert 0 < parse_percent(written) <= 100


@pytest.mark.parametrize("written", ["0", "-1", "100.1", "nan", "many", "", "inf"])
def test_what_is_no_percentage_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="expected a percentage above 0"):
        parse_percent(written)

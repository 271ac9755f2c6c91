"""Checks and repairs with just the rights that docs/privileges.md grants, by its own statements."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from demo.embedding import embed
from tests.builders.tables import role as database_role
from tests.drivers.repairs import docs, environment, opened, settings
from tests.drivers.runs import TENANTS
from tests.servers.endpoints import endpoint
from tests.servers.provider_server import ProviderServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.drivers.runs import Site

pytest_plugins = ("pytester",)

PAGE = (Path(__file__).parents[2] / "docs" / "privileges.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```sql\n(.*?)^```$", re.MULTILINE | re.DOTALL)
STATEMENTS, FOR_A_ROLLBACK = map(BLOCK.findall, PAGE.split("\n## For a rollback\n"))
ROLES = ("integrity_checks", "integrity_repair")
PASSWORD = "pw-Kd82mQx"

SCHEMA = """
CREATE TABLE workflow_insights (
    id bigint PRIMARY KEY, tenant text NOT NULL, body text,
    embedding vector(1536), embedding_model text, embedded_at timestamptz, content_hash text
);
CREATE TABLE insights (id bigint PRIMARY KEY, tenant text NOT NULL, body text);
CREATE TABLE insight_embeddings (
    insight_id bigint PRIMARY KEY, content text, embedding vector(1536)
);
CREATE TABLE tenant_settings (tenant_id text PRIMARY KEY, api_key text NOT NULL);
"""

SETTINGS = """
[provider]
dimensions = 1536
batch_size = 2

[keys]
sql = "SELECT api_key FROM public.tenant_settings WHERE tenant_id = %(tenant)s"

[[tables]]
name = "public.workflow_insights"
tenant = "tenant"
text = "body"
model_column = "embedding_model"
embedded_at = "embedded_at"
content_hash = "content_hash"
[tables.checks]
degenerate = { enabled = false }

[[tables]]
name = "public.insights"
tenant = "tenant"
text = "body"
[tables.checks]
degenerate = { enabled = false }
[tables.store]
name = "public.insight_embeddings"
key = ["insight_id"]
text = "content"
embedding = "embedding"
"""
ROWS = 4


@pytest.fixture
def granted(site: Site) -> Iterator[Site]:
    """A site whose URLs lead to the documented roles; both tables lack half of their vectors."""
    site.settings(SETTINGS)
    with psycopg.connect(site.database, autocommit=True) as connection:
        connection.execute(SCHEMA)
        _fill(connection)
        connection.execute("REVOKE ALL ON SCHEMA public FROM public")
        for statement in STATEMENTS:
            connection.execute(statement.replace("'...'", f"'{PASSWORD}'"))
        for name, role in zip(("DATABASE_URL", "REMEDIATION_DATABASE_URL"), ROLES, strict=True):
            info = connection.info
            url = f"postgresql://{role}:{PASSWORD}@{info.host}:{info.port}/{info.dbname}"
            site.monkeypatch.setenv(name, url)
        keys = {tenant: site.keys[tenant] for tenant in TENANTS}
        connection.cursor().executemany(
            "INSERT INTO tenant_settings VALUES (%s, %s)", list(keys.items())
        )
        try:
            with endpoint(keys) as running:
                site.provider = running
                site.monkeypatch.setenv("OPENAI_BASE_URL", running.base_url)
                yield site
        finally:
            for role in ROLES:
                connection.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def _fill(connection: psycopg.Connection[Any]) -> None:
    number = 0
    for tenant in TENANTS:
        for position in range(ROWS):
            number += 1
            text = f"text {number} of {tenant}"
            vector = "[" + ",".join(map(str, embed(text).tolist())) + "]"
            whole = position >= ROWS // 2
            connection.execute(
                "INSERT INTO workflow_insights VALUES"
                " (%(n)s, %(tenant)s, %(text)s, %(vector)s, %(model)s, now(), md5(%(text)s))",
                {
                    "n": number,
                    "tenant": tenant,
                    "text": text,
                    "vector": vector if whole else None,
                    "model": "text-embedding-3-small" if whole else None,
                },
            )
            connection.execute("INSERT INTO insights VALUES (%s, %s, %s)", (number, tenant, text))
            if whole:
                connection.execute(
                    "INSERT INTO insight_embeddings VALUES (%s, %s, %s)", (number, text, vector)
                )


def _may(site: Site, role: str, privilege: str, table: str) -> bool:
    with psycopg.connect(site.database) as connection:
        row = connection.execute(
            "SELECT has_table_privilege(%s, %s, %s) OR has_any_column_privilege(%s, %s, %s)",
            (role, table, privilege) * 2,
        ).fetchone()
    assert row is not None
    return bool(row[0])


def test_checks_run_with_the_right_to_read_and_none_to_write(granted: Site) -> None:
    run = granted.run()
    assert run.status == 1, run.output
    assert run.output.count("have text but no embedding") == 2
    assert run.output.count(f"  {len(TENANTS)}/{len(TENANTS)}\n") == 2
    assert "as role 'integrity_checks'" in run.output
    for table in ("workflow_insights", "insights", "insight_embeddings"):
        for privilege in ("INSERT", "UPDATE"):
            assert not _may(granted, "integrity_checks", privilege, table)


def test_a_repair_needs_no_more_than_the_documented_rights(granted: Site) -> None:
    plan = granted.run("--remediate", "--dry-run")
    assert plan.status == 1, plan.output
    assert "as role 'integrity_repair'" in plan.output
    run = granted.run("--remediate")
    assert run.status == 0, run.output
    lacking = len(TENANTS) * (ROWS // 2)
    for table in ("workflow_insights", "insights"):
        words = f"public.{table}: {lacking}/{lacking} rows re-embedded, 0 errors"
        assert words in run.output
    assert not _may(granted, "integrity_repair", "UPDATE", "insights")
    with psycopg.connect(granted.database) as connection:
        for statement in (
            "SELECT count(*) FROM workflow_insights WHERE embedding IS NULL",
            "SELECT count(*) FROM insights LEFT JOIN insight_embeddings ON id = insight_id"
            " WHERE embedding IS NULL",
        ):
            assert connection.execute(statement).fetchone() == (0,)


@pytest.mark.thorough
def test_a_rollback_needs_one_right_more_and_only_where_it_deletes(granted: Site) -> None:
    assert granted.run("--remediate").status == 0
    (journal,) = granted.folder.glob("incidents/*/journal.jsonl")
    rollback = f"--rollback={journal.parent.name}"
    refused = granted.run(rollback)
    lacking = len(TENANTS) * (ROWS // 2)
    assert refused.status in (1, 11), refused.output
    assert f"public.workflow_insights: {lacking}/{lacking} rows put back" in refused.output
    assert "permission denied for table insight_embeddings" in refused.output
    with psycopg.connect(granted.database, autocommit=True) as connection:
        for statement in FOR_A_ROLLBACK:
            connection.execute(statement)
    run = granted.run(rollback)
    assert run.status == 1, run.output
    assert f"public.insights: {lacking}/{lacking} rows put back" in run.output


@pytest.mark.parametrize(
    ("right", "words"),
    [
        (
            "UPDATE (embedding)",
            "next: grant what a repair of public.workflow_insights lacks, then run pytest"
            ' --remediate again\n    GRANT UPDATE ("embedding") ON "public"."workflow_insights" TO'
            ' "integrity_repair";\n    pytest ',
        ),
        ("SELECT", 'GRANT SELECT ON "public"."workflow_insights" TO "integrity_repair";\n'),
    ],
)
def test_a_right_that_is_missing_is_named_and_ends_in_no_green(
    granted: Site, right: str, words: str
) -> None:
    with psycopg.connect(granted.database, autocommit=True) as connection:
        connection.execute(f"REVOKE {right} ON public.workflow_insights FROM integrity_repair")
    run = granted.run("--remediate")
    assert run.status in (1, 11), run.output
    assert words in run.output


@pytest.mark.parametrize(
    ("granted_columns", "lacking"),
    [("embedding", ["model"]), ("model", ["embedding"]), (None, ["embedding", "model"])],
)
def test_a_plan_names_the_right_to_write_that_is_missing_with_its_grant(
    database: str, tmp_path: Path, granted_columns: str | None, lacking: list[str]
) -> None:
    with (
        ProviderServer() as server,
        docs(database, {"acme": (3, 2)}) as rows,
        database_role(database, "a Writer") as url,
    ):
        rows.execute("ALTER TABLE docs ADD model text")
        rows.execute('GRANT SELECT ON docs TO "a Writer"')
        if granted_columns:
            rows.execute(f'GRANT UPDATE ({granted_columns}) ON docs TO "a Writer"')
        chosen = settings(server, table={"model_column": "model"})
        with opened(url, chosen, keys=environment("acme")) as repair:
            plan = repair.plan()
            repair.run(plan, tmp_path, lambda _: None)
        (table,) = plan.tables
        names = ", ".join(f'"{name}"' for name in lacking)
        grant = f'GRANT UPDATE ({names}) ON "public"."docs" TO "a Writer";'
        assert table.unrepairable == (
            f"role 'a Writer' lacks rights that a repair needs; grant them: {grant}"
        )
        assert table.failing == 5
        assert server.requests == []
        rows.execute(grant)
        with opened(url, chosen, keys=environment("acme")) as repair:
            assert [one.unrepairable for one in repair.plan().tables] == [None]

"""The stories of how embeddings are lost in silence, each whole: found for what it is, made whole.

Every other check is asked as well, so that a story is told by its own check and by no other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from checks.database.connection_url import parse_url
from checks.errors import CannotExamineError
from checks.examination.examination import examine
from checks.examination.selection import Selection
from tests.builders.tables import role as database_role
from tests.builders.tables import rows, run
from tests.drivers.canaries import drift
from tests.drivers.repairs import TABLE, environment, repaired, settings
from tests.servers.provider_server import MODEL, ProviderServer, vector_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from checks.examination.examination import Examination
    from checks.settings.integrity_toml import Settings

KEYS = environment("acme", "globex")

DOCS = """
CREATE TABLE docs (
    id           integer PRIMARY KEY,
    tenant       text,
    body         text,
    embedding    {type},
    model        text DEFAULT '{model}',
    created_at   timestamptz DEFAULT '2026-01-01',
    updated_at   timestamptz DEFAULT '2026-01-01',
    embedded_at  timestamptz DEFAULT '2026-01-02',
    content_hash text,
    hidden       boolean DEFAULT false
)
"""
DECLARED = {
    "created_at": "created_at",
    "grace": "15 minutes",
    "updated_at": "updated_at",
    "embedded_at": "embedded_at",
    "content_hash": "content_hash",
    "model_column": "model",
}
"""All that a declaration can tell, so that every row check is asked."""

Found = dict[tuple[str, str | None], int]


@pytest.fixture
def server() -> Iterator[ProviderServer]:
    with ProviderServer() as provider:
        yield provider


@pytest.fixture
def docs(database: str) -> str:
    """Six whole rows of each of two tenants."""
    return filled(database, "vector(8)")


def filled(url: str, column_type: str) -> str:
    run(url, DOCS.format(type=column_type, model=MODEL))
    with psycopg.connect(url, autocommit=True) as connection, connection.cursor() as cursor:
        for number in range(12):
            tenant = "acme" if number < 6 else "globex"
            body = f"document {number} of {tenant}"
            cursor.execute(
                "INSERT INTO docs (id, tenant, body, embedding, content_hash)"
                " VALUES (%s, %s, %s, %s, md5(%s))",
                (number, tenant, body, literal(body), body),
            )
    return url


def literal(text: str, *, model: str = MODEL, dimensions: int = 8) -> str:
    """A text's vector as the server's model gives it, for SQL."""
    return str(vector_of(text, dimensions=dimensions, model=model).tolist())


def declared(server: ProviderServer | str, **keys: Any) -> Settings:
    return settings(server, table={**DECLARED, **keys})


def seen(url: str, chosen: Settings) -> Examination:
    return examine(parse_url(url, variable="DATABASE_URL"), chosen, Selection())


def found(url: str, chosen: Settings) -> Found:
    """Failing rows by check and tenant, of every check that does not hold."""
    return {(f.check, f.tenant): f.failing for f in seen(url, chosen).findings}


def wrong(url: str) -> list[int]:
    """Rows with a text whose vector is not the model's for it."""
    return [
        number
        for number, body, stored in rows(url, "SELECT id, body, embedding::text FROM docs")
        if body and (stored is None or stored != rows(url, _stored(body))[0][0])
    ]


def _stored(body: str) -> str:
    return f"SELECT '{literal(body)}'::vector::text"


def test_the_table_of_these_stories_is_whole_before_they_begin(
    docs: str, server: ProviderServer
) -> None:
    assert found(docs, declared(server)) == {}
    assert wrong(docs) == []


def test_vectors_that_are_there_but_tagged_with_nothing(
    docs: str, server: ProviderServer, tmp_path: Path
) -> None:
    run(docs, "UPDATE docs SET model = '' WHERE id < 3", "UPDATE docs SET model = NULL WHERE id=6")
    other = literal("document 1 of acme", model="another-model")
    run(docs, f"UPDATE docs SET embedding = '{other}' WHERE id = 1")
    chosen = declared(server)
    assert found(docs, chosen) == {("provenance", "acme"): 3, ("provenance", "globex"): 1}
    done = repaired(docs, chosen, tmp_path, keys=KEYS)
    assert done.counts() == {"selected": 4, "fixed": 4}
    assert found(docs, chosen) == {}
    assert rows(docs, "SELECT DISTINCT model FROM docs") == [(MODEL,)]
    # Embedded again, not merely stamped: one of them did come from another model.
    assert wrong(docs) == []
    sent = [text for text in server.texts if text.startswith("document")]
    assert {"document 0 of acme", "document 1 of acme"} <= set(sent)


def test_a_stale_vector_whose_hash_was_stamped_with_the_new_text(
    docs: str, server: ProviderServer, tmp_path: Path
) -> None:
    """The hash alone is deceived; the times are not, and where there are none, drift is not."""
    run(
        docs,
        "UPDATE docs SET body = 'rewritten ' || id, updated_at = '2026-01-03' WHERE id < 2",
        "UPDATE docs SET content_hash = md5(body)",
    )
    hash_only = declared(server, updated_at=None, embedded_at=None)
    assert found(docs, hash_only) == {}
    looked = drift(docs, settings(server, table={"content_hash": "content_hash"}), keys=KEYS)
    assert looked.held() == {"acme": False, "globex": True}
    both = declared(server)
    assert found(docs, both) == {("freshness", "acme"): 2}
    repaired(docs, both, tmp_path, keys=KEYS)
    assert found(docs, both) == {}
    assert wrong(docs) == []


def test_a_child_table_whose_rows_are_missing_rather_than_null(
    docs: str, server: ProviderServer, tmp_path: Path
) -> None:
    run(
        docs,
        "CREATE TABLE vectors (doc_id integer PRIMARY KEY, embedding vector(8))",
        "INSERT INTO vectors SELECT id, embedding FROM docs",
        "ALTER TABLE docs DROP embedding",
        "DELETE FROM vectors WHERE doc_id IN (0, 1, 6)",
    )
    store = {"name": "public.vectors", "key": ["doc_id"]}
    chosen = settings(server, table={"store": store})
    assert found(docs, chosen) == {("completeness", "acme"): 2, ("completeness", "globex"): 1}
    done = repaired(docs, chosen, tmp_path, keys=KEYS)
    assert done.counts() == {"selected": 3, "fixed": 3}
    assert found(docs, chosen) == {}
    assert rows(docs, "SELECT count(*) FROM vectors") == [(12,)]


def test_a_table_whose_tenant_vanished(docs: str, server: ProviderServer) -> None:
    run(docs, "DELETE FROM docs WHERE tenant = 'globex'")
    chosen = declared(server, tenants=["acme", "globex"])
    assert found(docs, chosen) == {("tenants", "globex"): 0}
    assert found(docs, declared(server)) == {}  # nobody said that globex must have rows


def test_a_replica_s_role_that_sees_half_of_the_rows(docs: str, server: ProviderServer) -> None:
    run(docs, "UPDATE docs SET embedding = NULL WHERE tenant = 'globex'")
    chosen = declared(server)
    with database_role(docs, "sees_half") as url:
        run(
            docs,
            "GRANT SELECT ON docs TO sees_half",
            "ALTER TABLE docs ENABLE ROW LEVEL SECURITY",
            "CREATE POLICY only_acme ON docs FOR SELECT TO sees_half USING (tenant = 'acme')",
        )
        assert rows(url, "SELECT count(*) FROM docs") == [(6,)]
        # The half that it sees is whole: a pass here would be the lie.
        with pytest.raises(CannotExamineError) as caught:
            seen(url, chosen)
        reason = str(caught.value)
        assert "row-level security (only_acme) may hide rows of public.docs" in reason
        bypass, _, policy = reason.partition("Grant sight with ")[2].partition(", or with ")
        run(docs, policy.partition(" where no restrictive")[0])
        assert found(url, chosen) == {("completeness", "globex"): 6}
        run(docs, "DROP POLICY integrity_sees_all ON docs", bypass)
        assert found(url, chosen) == {("completeness", "globex"): 6}


def test_hidden_rows_of_one_table_do_not_hide_the_findings_of_another(
    docs: str, server: ProviderServer
) -> None:
    run(docs, "CREATE TABLE open_docs AS SELECT * FROM docs WHERE id > 1")
    with database_role(docs, "sees_one") as url:
        run(
            docs,
            "GRANT SELECT ON docs, open_docs TO sees_one",
            "ALTER TABLE docs ENABLE ROW LEVEL SECURITY",
            "UPDATE open_docs SET embedding = NULL WHERE id = 2",
        )
        plain = {"tenant": "tenant", "text": "body"}
        tables = [{"name": name, **plain} for name in ("public.docs", "public.open_docs")]
        examination = seen(url, settings(server, tables=tables))
    assert [(f.check, f.table) for f in examination.findings] == [
        ("schema", "public.docs"),
        ("completeness", "public.open_docs"),
    ]
    assert "(no policy admits this role)" in examination.findings[0].says


def test_an_index_left_invalid_by_a_broken_concurrently(
    database: str, server: ProviderServer
) -> None:
    docs = filled(database, "vector")
    run(docs, "UPDATE docs SET embedding = '[1,2]' WHERE id = 0")
    build = (
        "CREATE INDEX CONCURRENTLY docs_ann ON docs"
        " USING hnsw ((embedding::vector(8)) vector_cosine_ops)"
    )
    with pytest.raises(psycopg.errors.DataException):
        run(docs, build)
    assert rows(docs, "SELECT indisvalid FROM pg_index WHERE indexrelid = 'docs_ann'::regclass")[
        0
    ] == (False,)
    chosen = declared(server, index="hnsw")
    examination = seen(docs, chosen)
    assert {f.check for f in examination.findings} == {"index", "dimensionality"}
    says = next(f.says for f in examination.findings if f.check == "index")
    assert "public.docs_ann is invalid, as a broken CREATE INDEX CONCURRENTLY leaves it" in says
    run(docs, f"UPDATE docs SET embedding = '{literal('document 0 of acme')}' WHERE id = 0")
    run(docs, *says.partition("mend it with:\n")[2].splitlines())
    assert found(docs, chosen) == {}


def test_texts_that_are_empty_on_purpose(docs: str, server: ProviderServer, tmp_path: Path) -> None:
    run(
        docs,
        "UPDATE docs SET body = '', embedding = NULL WHERE id = 0",
        "UPDATE docs SET body = NULL, embedding = NULL WHERE id = 1",
        "UPDATE docs SET body = E' \\n\\t', embedding = NULL WHERE id = 2",
    )
    chosen = declared(server)
    assert found(docs, chosen) == {}
    (table,) = seen(docs, chosen).tables
    assert table.measurement("acme").not_embeddable == 3
    assert repaired(docs, chosen, tmp_path, keys=KEYS).plan.tables == ()
    assert server.requests == []


def test_rows_younger_than_their_grace(docs: str, server: ProviderServer) -> None:
    young = "embedding = NULL, created_at = now() - interval '14 minutes'"
    old = "embedding = NULL, created_at = now() - interval '16 minutes'"
    run(
        docs,
        f"UPDATE docs SET {young} WHERE id = 0",
        f"UPDATE docs SET {old} WHERE id = 1",
        "UPDATE docs SET embedding = NULL, created_at = NULL WHERE id = 6",
    )
    chosen = declared(server)
    # Of unknown age is not young.
    assert found(docs, chosen) == {("completeness", "acme"): 1, ("completeness", "globex"): 1}
    (table,) = seen(docs, chosen).tables
    assert [m.pending for m in table.measurements] == [1, 0]


def test_a_column_of_mixed_dimensions(
    database: str, server: ProviderServer, tmp_path: Path
) -> None:
    docs = filled(database, "vector")
    small, large = (literal("x", dimensions=size) for size in (3, 1536))
    run(
        docs,
        f"UPDATE docs SET embedding = '{small}' WHERE id IN (0, 6)",
        f"UPDATE docs SET embedding = '{large}' WHERE id = 7",
    )
    chosen = declared(server)
    expected = {("dimensionality", "acme"): 1, ("dimensionality", "globex"): 2}
    assert {key: n for key, n in found(docs, chosen).items() if key[0] != "uniqueness"} == expected
    repaired(docs, chosen, tmp_path, keys=KEYS)
    assert found(docs, chosen) == {}
    assert wrong(docs) == []


def test_one_tenant_embedded_by_another_model_of_the_same_dimension(
    docs: str, server: ProviderServer
) -> None:
    for number, body in rows(docs, "SELECT id, body FROM docs WHERE tenant = 'globex'"):
        other = literal(body, model="another-model")
        run(docs, f"UPDATE docs SET embedding = '{other}' WHERE id = {number}")
    chosen = declared(server)
    # No predicate over the row can tell: the tag says what it should, the size is right.
    assert found(docs, chosen) == {}
    looked = drift(docs, chosen, keys=KEYS)
    assert looked.held() == {"acme": True, "globex": False}
    assert looked.verdict("globex").failing == looked.verdict("globex").rows == 5
    assert TABLE in {finding.table for finding in looked.table.findings}

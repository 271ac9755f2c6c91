"""The check `index`: what it misses, and that the statements it prints mend it."""

from __future__ import annotations

import psycopg
import pytest

from checks.items.cases import cases_of
from checks.items.judgements import judge
from tests.builders.tables import DOCS, examined, run, says, table

FIXED = """
CREATE TABLE docs (
    id bigint PRIMARY KEY, tenant text, body text, embedding vector(3), archived boolean,
    kind text
)
"""

PARTITIONED = (
    """CREATE TABLE docs (id bigint, tenant text, body text, embedding vector(3))
       PARTITION BY LIST (tenant)""",
    "CREATE TABLE docs_a PARTITION OF docs FOR VALUES IN ('a')",
    "CREATE TABLE docs_rest PARTITION OF docs DEFAULT PARTITION BY LIST (tenant)",
    "CREATE TABLE docs_b PARTITION OF docs_rest FOR VALUES IN ('b')",
    "CREATE TABLE docs_c PARTITION OF docs_rest FOR VALUES IN ('c')",
)


OTHERS_OFF = {
    check: {"enabled": False}
    for check in ("completeness", "degenerate", "dimensionality", "uniqueness")
}
"""Row checks, which no index decides and whose suite takes most of the time."""


def faults(url: str, **keys: object) -> list[str]:
    """What the check says of `docs`, declared with an index for cosine unless said otherwise."""
    return says(examined(url, table(**{"index": "hnsw", "checks": OTHERS_OFF, **keys})), "index")


def statements(fault: str) -> list[str]:
    """The statements that a finding says mend it."""
    _, marked, printed = fault.partition("\nmend it with:\n")
    assert marked
    return printed.splitlines()


def index(url: str, definition: str, *, name: str = "ann", on: str = "docs") -> None:
    run(url, f"CREATE INDEX {name} ON {on} USING {definition}")


@pytest.fixture
def docs(database: str) -> str:
    """A table with a dimensioned column and two whole rows, without any index on it."""
    run(
        database,
        FIXED,
        "INSERT INTO docs VALUES (1, 'a', 'x', '[1,2,3]', false, 'k'),"
        " (2, 'b', 'y', '[3,2,1]', true, 'k')",
    )
    return database


def left_invalid(url: str, *, name: str = "ann") -> None:
    """An index that a CREATE INDEX CONCURRENTLY left behind when it met a row it cannot hold."""
    run(url, "INSERT INTO docs VALUES (99, 'a', 'x', '[1,2]')")
    with pytest.raises(psycopg.errors.DataException):
        run(
            url,
            f"CREATE INDEX CONCURRENTLY {name} ON docs"
            " USING hnsw ((embedding::vector(3)) vector_cosine_ops)",
        )
    run(url, "DELETE FROM docs WHERE id = 99")


def test_no_declared_index_is_no_check(docs: str) -> None:
    examination = examined(docs, table())
    assert says(examination, "index") == []
    assert "index" not in {case.check for case in cases_of(examination)}


def test_a_missing_index_is_a_finding_of_the_table(docs: str) -> None:
    examination = examined(docs, table(index="hnsw"))
    (case,) = (case for case in cases_of(examination) if case.check == "index")
    (finding,) = judge(case, examination).findings
    assert case.whole_table
    assert (finding.check, finding.table, finding.severity) == ("index", "public.docs", "error")
    assert finding.message == (
        "index: public.docs has no sound hnsw index for cosine over embedding\n"
        "mend it with:\n"
        'CREATE INDEX CONCURRENTLY ON "public"."docs"'
        ' USING hnsw ("embedding" vector_cosine_ops);'
    )


@pytest.mark.parametrize("method", ["hnsw", "ivfflat"])
@pytest.mark.parametrize("metric", ["cosine", "l2", "inner_product"])
def test_the_printed_statement_mends_it_for_every_type(
    database: str, metric: str, method: str
) -> None:
    types = [f"{kind}{size}" for kind in ("vector", "halfvec", "sparsevec") for size in ("", "(3)")]
    columns = dict(enumerate([*types, "real[]", "double precision[]"]))
    keys = {"index": method, "metric": metric, "embedding": '"em bed"', "checks": OTHERS_OFF}
    declared = [table(f"docs_{number}", **keys) for number in columns]
    for number, column in columns.items():
        run(database, f'CREATE TABLE docs_{number} (id int, body text, "em bed" {column})')
    found = says(examined(database, *declared), "index")
    assert len(found) == len(columns)
    impossible = [fault for fault in found if statements(fault)[0].startswith("-- ")]
    assert len(impossible) == (2 if method == "ivfflat" else 0)  # sparsevec knows hnsw alone
    for fault in found:
        run(database, *statements(fault))
    assert says(examined(database, *declared), "index") == impossible


def test_more_dimensions_than_a_vector_index_holds_are_indexed_as_halfvec(database: str) -> None:
    run(database, "CREATE TABLE docs (id int PRIMARY KEY, body text, embedding vector(3072))")
    (fault,) = faults(database, dimensions=3072)
    assert "halfvec(3072)) halfvec_cosine_ops" in fault
    run(database, *statements(fault))
    assert faults(database, dimensions=3072) == []


def test_more_dimensions_than_any_index_holds_are_told(database: str) -> None:
    run(database, "CREATE TABLE docs (id int PRIMARY KEY, body text, embedding vector(4001))")
    (fault,) = faults(database, dimensions=4001)
    assert statements(fault) == [
        "-- public.docs can hold no such hnsw index: pgvector indexes at most 2,000 dimensions,"
        " or 4,000 as halfvec, these are 4,001; take `index` out of the settings"
    ]


def test_a_statement_names_the_extension_s_schema_where_it_is_another(database: str) -> None:
    run(
        database,
        "CREATE SCHEMA extensions",
        "ALTER EXTENSION vector SET SCHEMA extensions",
        "CREATE TABLE docs (id int PRIMARY KEY, body text, embedding extensions.vector)",
    )
    (fault,) = faults(database)
    run(database, *statements(fault))
    assert faults(database) == []


def test_lists_of_an_ivfflat_index_follow_the_rows(docs: str) -> None:
    run(
        docs,
        "INSERT INTO docs (id, embedding) SELECT i, '[1,2,3]' FROM generate_series(3, 5000) AS i",
        "ANALYZE docs",
    )
    (fault,) = faults(docs, index="ivfflat")
    assert "WITH (lists = 5)" in fault


def test_an_index_that_a_broken_concurrent_build_left_is_a_finding(database: str) -> None:
    run(database, DOCS, "INSERT INTO docs VALUES (1, 'a', 'x', '[1,2,3]')")
    left_invalid(database)
    (fault,) = faults(database)
    assert "public.ann is invalid, as a broken CREATE INDEX CONCURRENTLY leaves it" in fault
    assert statements(fault) == ["REINDEX INDEX CONCURRENTLY public.ann;"]
    run(database, *statements(fault))
    assert faults(database) == []


def test_a_broken_copy_beside_a_sound_index_is_no_finding(database: str) -> None:
    run(database, DOCS, "INSERT INTO docs VALUES (1, 'a', 'x', '[1,2,3]')")
    left_invalid(database)
    index(database, "hnsw ((embedding::vector(3)) vector_cosine_ops)", name="sound")
    assert faults(database) == []


def test_what_a_broken_reindex_left_is_dropped_not_kept(database: str) -> None:
    run(database, DOCS, "INSERT INTO docs VALUES (1, 'a', 'x', '[1,2,3]')")
    left_invalid(database, name="docs_embedding_idx_ccnew1")
    (fault,) = faults(database)
    first, second = statements(fault)
    assert first == "DROP INDEX CONCURRENTLY public.docs_embedding_idx_ccnew1;"
    assert second.startswith("CREATE INDEX CONCURRENTLY ")
    run(database, first, second)
    assert faults(database) == []


@pytest.mark.parametrize(
    ("definition", "keys", "reason"),
    [
        (
            "hnsw (embedding vector_l2_ops)",
            {},
            "is of operator class vector_l2_ops, where the metric needs vector_cosine_ops",
        ),
        (
            "hnsw (embedding vector_cosine_ops)",
            {"metric": "inner_product"},
            "is of operator class vector_cosine_ops, where the metric needs vector_ip_ops",
        ),
        ("ivfflat (embedding vector_cosine_ops) WITH (lists = 1)", {}, "is of the kind ivfflat"),
        ("hnsw (other vector_cosine_ops)", {}, "is on other"),
        (
            "hnsw ((subvector(embedding, 1, 2)::vector(2)) vector_cosine_ops)",
            {},
            "is on (subvector(",
        ),
        (
            "hnsw ((binary_quantize(embedding)::bit(3)) bit_hamming_ops)",
            {},
            "is on (binary_quantize(embedding)::bit(3)), not on the whole of embedding",
        ),
    ],
)
def test_an_index_that_does_not_fit_is_told_with_the_reason(
    docs: str, definition: str, keys: dict[str, object], reason: str
) -> None:
    run(docs, "ALTER TABLE docs ADD other vector(3)")
    index(docs, definition)
    (fault,) = faults(docs, **keys)
    assert f"public.ann {reason}" in fault
    run(docs, *statements(fault))
    assert faults(docs, **keys) == []


@pytest.mark.parametrize(
    ("column", "definition"),
    [
        ("embedding", "hnsw (embedding vector_cosine_ops)"),
        ("embedding", "hnsw ((embedding::halfvec(3)) halfvec_cosine_ops)"),
        ('"Em""bed"', 'hnsw (("Em""bed"::halfvec(3)) halfvec_cosine_ops)'),
        ('"select"', 'hnsw (("select"::halfvec(3)) halfvec_cosine_ops)'),
    ],
)
def test_an_index_on_the_column_or_a_cast_of_it_counts(
    docs: str, column: str, definition: str
) -> None:
    if column != "embedding":
        run(docs, f"ALTER TABLE docs RENAME embedding TO {column}")
    index(docs, definition)
    assert faults(docs, embedding=column) == []


def test_an_index_on_a_cast_to_another_dimension_is_told(database: str) -> None:
    run(database, DOCS)
    index(database, "hnsw ((embedding::vector(4)) vector_cosine_ops)")
    (fault,) = faults(database)
    assert "public.ann is on 4 dimensions, declared are 3" in fault
    # To paste what follows does no harm: which of the two is wrong, a person has to say.
    assert "-- an index of 4 dimensions is there: correct `dimensions` in the settings" in fault
    assert [line for line in fault.splitlines() if line.startswith("CREATE INDEX")] == []


@pytest.mark.parametrize(
    ("predicate", "where", "covers"),
    [
        ("NOT archived", "NOT archived", True),
        ("archived IS FALSE", "archived IS FALSE", True),
        ("embedding IS NOT NULL", None, True),
        ("NOT archived", "NOT archived AND kind = 'k'", True),
        ("NOT archived AND kind = 'k'", "kind = 'k' and not (archived)", True),
        ("NOT archived", None, False),
        ("NOT archived AND kind = 'k'", "NOT archived", False),
        ("archived", "NOT archived", False),
        ("kind = 'other'", "kind = 'k'", False),
    ],
)
def test_a_partial_index_must_hold_every_row_of_the_scope(
    docs: str, predicate: str, where: str | None, covers: bool
) -> None:
    index(docs, f"hnsw (embedding vector_cosine_ops) WHERE {predicate}")
    found = faults(docs, **({} if where is None else {"where": where}))
    assert (found == []) is covers
    if not covers:
        assert "public.ann is partial and may leave rows of the declared scope out" in found[0]
        run(docs, *statements(found[0]))
        assert faults(docs, **({} if where is None else {"where": where})) == []


def test_every_partition_must_be_covered(database: str) -> None:
    run(database, *PARTITIONED)
    index(database, "hnsw (embedding vector_cosine_ops)", name="a", on="docs_a")
    index(database, "hnsw (embedding vector_l2_ops)", name="b", on="docs_b")
    (fault,) = faults(database, tenant="tenant", key=["id"])
    assert "public.docs_a" not in fault
    assert "public.docs_b has no sound hnsw index for cosine over embedding; public.b is" in fault
    assert "public.docs_c has no sound hnsw index" in fault
    run(database, *statements(fault))
    assert faults(database, tenant="tenant", key=["id"]) == []


def test_an_index_of_the_partitioned_table_covers_them_all(database: str) -> None:
    run(database, *PARTITIONED)
    index(database, "hnsw (embedding vector_cosine_ops)")
    assert faults(database, tenant="tenant", key=["id"]) == []


def test_many_partitions_without_an_index_are_counted(database: str) -> None:
    run(
        database,
        *PARTITIONED[:1],
        *(f"CREATE TABLE docs_{i} PARTITION OF docs FOR VALUES IN ('t{i}')" for i in range(8)),
    )
    (fault,) = faults(database, tenant="tenant", key=["id"])
    assert "and so 3 more partitions" in fault
    assert len(statements(fault)) == 5


def test_a_view_is_told_that_its_index_cannot_be_seen(docs: str) -> None:
    run(docs, "CREATE VIEW seen AS SELECT * FROM docs")
    (fault,) = says(examined(docs, table("seen", index="hnsw")), "index")
    assert fault.startswith("public.seen is a view, whose index cannot be seen from here")


def test_a_materialised_view_has_indexes_of_its_own(docs: str) -> None:
    run(docs, "CREATE MATERIALIZED VIEW kept AS SELECT * FROM docs")
    (fault,) = says(examined(docs, table("kept", index="hnsw")), "index")
    run(docs, *statements(fault))
    assert says(examined(docs, table("kept", index="hnsw")), "index") == []


def test_severity_and_enabled_come_from_the_settings(docs: str) -> None:
    warned = examined(docs, table(index="hnsw", checks={"index": {"severity": "warning"}}))
    assert [f.severity for f in warned.findings if f.check == "index"] == ["warning"]
    disabled = examined(docs, table(index="hnsw", checks={"index": {"enabled": False}}))
    assert says(disabled, "index") == []
    assert "index" not in {case.check for case in cases_of(disabled)}


def test_a_table_without_its_index_can_still_be_repaired(docs: str) -> None:
    (seen,) = examined(docs, table(index="hnsw")).tables
    assert seen.target.problems == ()
    assert seen.target.unrepairable is None


def test_an_old_pgvector_is_offered_what_it_knows(old_database: str) -> None:
    run(old_database, FIXED, "CREATE TABLE large (id int, body text, embedding vector(3072))")
    (fault,) = faults(old_database)
    run(old_database, *statements(fault))
    assert faults(old_database) == []
    large = table("large", index="hnsw", dimensions=3072)
    (fault,) = says(examined(old_database, large), "index")
    assert statements(fault) == [
        "-- public.large can hold no such hnsw index: pgvector 0.6.2 indexes at most 2,000"
        " dimensions, these are 3,072; 0.7 and newer index up to 4,000 as halfvec: upgrade it"
    ]

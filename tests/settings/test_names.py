"""Names in settings mean what they mean in SQL."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks.settings.names import Match, TableName, display_identifier, parse_identifier

# PostgreSQL stores every character but NUL; a lone surrogate has no UTF-8 form.
IDENTIFIERS = st.text(
    st.characters(exclude_characters="\0", codec="utf-8"), min_size=1, max_size=63
)


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("tenant_id", "tenant_id"),
        ("TenantId", "tenantid"),
        ('"tenantId"', "tenantId"),
        ('"say ""hi"""', 'say "hi"'),
        ('"a.b"', "a.b"),
        ('" "', " "),
        ("  id ", "id"),
        ("_x$1", "_x$1"),
        ("GRÖSSE", "grÖsse"),
        ("İd", "İd"),
    ],
)
def test_an_identifier_is_read_as_sql_reads_it(written: str, stored: str) -> None:
    assert parse_identifier(written) == stored


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("", "expected a name, found an empty one"),
        ("   ", "expected a name, found an empty one"),
        ('""', "expected a name, found an empty one"),
        ('"tenantId', "balanced double quotes"),
        ('ten"ant', "balanced double quotes"),
        ("public.id", "found a dot"),
        ("id.", "found a dot"),
        ('"a"b', "nothing beside a quoted name"),
        ('a"b"', "nothing beside a quoted name"),
        ("tenant id", "put double quotes around"),
        ("tenant-id", "put double quotes around"),
        ("1st", "put double quotes around"),
        ("lower(id)", "put double quotes around"),
        ("tenant_*", "put double quotes around"),
        ("id; DROP TABLE x", "put double quotes around"),
        ("a\0b", "NUL"),
    ],
)
def test_what_is_no_identifier_is_refused_in_words(written: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_identifier(written)


@given(IDENTIFIERS)
def test_any_identifier_survives_being_quoted_and_read(name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    assert parse_identifier(quoted) == name


@given(IDENTIFIERS)
def test_any_identifier_survives_being_displayed_and_read(name: str) -> None:
    assert parse_identifier(display_identifier(name)) == name


@given(IDENTIFIERS, st.none() | IDENTIFIERS)
def test_any_table_name_survives_being_displayed_and_read(name: str, schema: str | None) -> None:
    table = TableName(schema=schema, name=name)
    assert TableName.parse(str(table)) == table
    assert not table.is_pattern


@pytest.mark.parametrize(
    ("written", "schema", "name"),
    [
        ("public.workflow_insights", "public", "workflow_insights"),
        ("Documents", None, "documents"),
        ('"Tenant A"."Work.Flow"', "Tenant A", "Work.Flow"),
        ('public . "a""b"', "public", 'a"b'),
    ],
)
def test_a_table_name_is_read_as_sql_reads_it(written: str, schema: str | None, name: str) -> None:
    assert TableName.parse(written) == TableName(schema=schema, name=name)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("db.public.documents", "expected table or schema.table, found 3 parts"),
        (".documents", "found an empty one"),
        ("public.", "found an empty one"),
        ("a_*_b_*.documents", "at most one"),
        ('public."documents', "balanced double quotes"),
        ("my-schema.documents", "put double quotes around"),
    ],
)
def test_what_is_no_table_name_is_refused_in_words(written: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TableName.parse(written)


@pytest.mark.parametrize(
    ("pattern", "schema", "name", "match"),
    [
        ("tenant_*.documents", "tenant_acme", "documents", ("acme", None)),
        ("tenant_*.documents", "tenant_ACME-7", "documents", ("ACME-7", None)),
        ("TENANT_*.documents", "tenant_acme", "documents", ("acme", None)),
        ("*.documents", "acme", "documents", ("acme", None)),
        ("public.data_*_v2", "public", "data_x.y_v2", (None, "x.y")),
        ("t_*.data_*", "t_1", "data_2", ("1", "2")),
        ("documents", "any schema", "documents", (None, None)),
        ("public.documents", "public", "documents", (None, None)),
    ],
)
def test_a_pattern_tells_what_its_star_stands_for(
    pattern: str, schema: str, name: str, match: tuple[str | None, str | None]
) -> None:
    assert TableName.parse(pattern).match(schema, name) == Match(
        schema_part=match[0], table_part=match[1]
    )


@pytest.mark.parametrize(
    ("pattern", "schema", "name"),
    [
        ("tenant_*.documents", "tenant_", "documents"),
        ("tenant_*.documents", "tenant_acme", "document"),
        ("tenant_*.documents", "public", "documents"),
        ("public.data_*", "private", "data_x"),
        ("public.a_*_a", "public", "a_a"),
        ("public.documents", "public", "Documents"),
    ],
)
def test_a_table_that_is_not_meant_is_not_matched(pattern: str, schema: str, name: str) -> None:
    assert TableName.parse(pattern).match(schema, name) is None


def test_a_star_in_double_quotes_is_a_plain_character() -> None:
    table = TableName.parse('public."data_*"')
    assert not table.is_pattern
    assert table.match("public", "data_x") is None
    assert table.match("public", "data_*") == Match(schema_part=None, table_part=None)


@pytest.mark.parametrize("pattern", ["tenant_*.documents", "public.data_*", '*."Docs"', "d_*"])
def test_a_pattern_survives_being_displayed_and_read(pattern: str) -> None:
    table = TableName.parse(pattern)
    assert table.is_pattern
    assert str(table) == pattern
    assert TableName.parse(str(table)) == table


@given(IDENTIFIERS)
def test_whatever_stands_in_for_the_star_is_found_again(part: str) -> None:
    found = TableName.parse("tenant_*.documents").match(f"tenant_{part}", "documents")
    assert found == Match(schema_part=part, table_part=None)

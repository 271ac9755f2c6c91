"""The settings file: what it means, and every way in which it can be wrong."""

from __future__ import annotations

import re
import tomllib
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, cast

import pytest
from pydantic import BaseModel, ValidationError

from checks.errors import SettingsError
from checks.row_checks.rules import ROW_CHECK_NAMES
from checks.settings.check_names import CANARIES, TABLE_CHECKS
from checks.settings.integrity_toml import (
    Canary,
    Database,
    Keys,
    Provider,
    RepairLimits,
    Settings,
    load_settings,
)
from checks.settings.names import TableName
from checks.settings.tables import Table
from tests.builders.settings_files import PATTERN, TABLE, settings_of

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLE = Path(__file__).parents[2] / "integrity.example.toml"
OPTION = re.compile(r"^#(?=[\[a-z])", re.MULTILINE)


def test_a_table_with_name_and_text_is_enough(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, TABLE)
    expected = Settings(tables=(Table(name=TableName.parse("public.docs"), text="body"),))
    assert settings.model_dump() == expected.model_dump()
    assert settings.path.name == "integrity.toml"
    assert settings.tables[0].embedding == "embedding"
    assert settings.keys.env == "OPENAI_API_KEY__{tenant}"
    assert settings.keys.fallback_env is None


def test_names_are_read_as_in_sql_and_expressions_are_kept_as_written(tmp_path: Path) -> None:
    table = settings_of(
        tmp_path,
        """
        [[tables]]
        name = 'Public."Docs"'
        key = ["ID", '"tenantId"']
        tenant = '"tenantId"'
        text = "Title || body"
        embedding = '"vecOf"'
        [tables.store]
        name = "public.vectors"
        key = ["doc_id", "tenant"]
        insert = { '"kindOf"' = "'Summary'" }
        """,
    ).tables[0]
    assert table.name == TableName(schema="public", name="Docs")
    assert table.key == ("id", "tenantId")
    assert (table.tenant, table.text, table.embedding) == ('"tenantId"', "Title || body", "vecOf")
    assert table.store is not None
    assert table.store.insert == {"kindOf": "'Summary'"}


def test_a_share_is_kept_exactly_as_it_is_written(tmp_path: Path) -> None:
    checks = settings_of(
        tmp_path, TABLE + "[tables.checks]\ncompleteness = {min = 0.99990}\nfreshness = {min = 1}\n"
    ).tables[0]
    assert str(checks.check_settings("completeness").min) == "0.99990"
    assert checks.check_settings("freshness").min == Decimal(1)
    assert checks.check_settings("uniqueness").min is None


def test_a_custom_check_is_configured_by_its_own_entry_unless_checks_says_otherwise(
    tmp_path: Path,
) -> None:
    table = settings_of(
        tmp_path,
        TABLE
        + """
        [tables.checks]
        tagged = { min = 0.5, accept = [{ rows = 3, until = 2026-12-31, reason = "known" }] }
        [[tables.custom]]
        name = "tagged"
        failing_when = "lang IS NULL"
        severity = "warning"
        min = 0.9
        """,
    ).tables[0]
    merged = table.check_settings("tagged")
    assert (merged.min, merged.severity, merged.enabled) == (Decimal("0.5"), "warning", True)
    assert merged.accept[0].until == date(2026, 12, 31)
    assert merged.accept[0].tenant is None


def test_a_table_may_have_its_own_model_and_dimensions(tmp_path: Path) -> None:
    settings = settings_of(
        tmp_path, TABLE + 'model = "text-embedding-3-large"\ndimensions = 3072\n' + PATTERN
    )
    own, other = settings.tables
    assert settings.model_for(own) == "text-embedding-3-large"
    assert settings.dimensions_for(own) == 3072
    assert settings.model_for(other) == "text-embedding-3-small"
    assert settings.dimensions_for(other) == 1536


@pytest.mark.parametrize(
    "text",
    [
        TABLE + 'updated_at = "u"\nembedded_at = "e"',
        TABLE + 'updated_at = "u"\ncontent_hash = "h"',
        TABLE + 'embedded_at = "e"',
        TABLE + 'updated_at = "u"\n[tables.store]\nname = "s"\nkey = ["id"]\nembedded_at = "e"',
        TABLE + "[keys]\nsql = \"SELECT k FROM t WHERE n = %(tenant)s AND k LIKE 'a%%'\"",
        TABLE + '[keys]\ncommand = ["vault", "read", "keys/{tenant}"]',
        TABLE + '[[tables]]\nname = "docs"\ntext = "body"',
        TABLE + '[[tables]]\nname = \'public."Docs"\'\ntext = "body"',
        PATTERN + 'tenant_from = "schema"\ntenants = ["acme"]',
        TABLE + "[repair]\nprobe = 0\nmax_cost = 0",
        "\ufeff" + TABLE,
    ],
)
def test_a_file_at_the_edge_of_the_rules_is_taken(text: str, tmp_path: Path) -> None:
    assert settings_of(tmp_path, text).tables


def test_a_missing_file_is_told_with_the_command_that_makes_one(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(tmp_path / "integrity.toml", row_checks=ROW_CHECK_NAMES)
    (fault,) = caught.value.errors
    assert fault.startswith(f"integrity.toml: no such file in {tmp_path}; ")
    assert "embedding-integrity discover > integrity.toml" in fault


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'[[tables]]\nname = "docs\n', r"not valid TOML: .*line 2, column 13"),
        (b'[[tables]]\nname = "caf\xe9"\n', "expected UTF-8, found byte 0xe9 at offset 22"),
        (b"x = " + b"9" * 5000, "a number is too long"),
    ],
)
def test_a_file_that_cannot_be_read_is_told_with_the_place(
    content: bytes, words: str, tmp_path: Path
) -> None:
    path = tmp_path / "integrity.toml"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=words) as caught:
        load_settings(path, row_checks=ROW_CHECK_NAMES)
    assert len(caught.value.errors) == 1


def test_a_folder_in_the_place_of_the_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        load_settings(tmp_path, row_checks=ROW_CHECK_NAMES)


def test_settings_cannot_be_changed_after_they_were_read(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, TABLE)
    with pytest.raises(ValidationError, match="frozen"):
        settings.provider.batch_size = 1  # type: ignore[misc]


def test_every_check_of_the_documentation_is_on_by_default() -> None:
    names = {*TABLE_CHECKS, *ROW_CHECK_NAMES, *CANARIES}
    assert len(names) == 12
    table = Table(name=TableName.parse("docs"), text="body")
    assert all(table.check_settings(name).enabled for name in names)


def test_the_example_is_ready_to_use() -> None:
    settings = load_settings(EXAMPLE, row_checks=ROW_CHECK_NAMES)
    assert [str(table.name) for table in settings.tables] == ["public.workflow_insights"]
    assert settings.model_dump() == Settings(tables=settings.tables).model_dump()


def test_the_example_with_every_option_switched_on_holds_every_key(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, OPTION.sub("", EXAMPLE.read_text(encoding="utf-8")))
    given_keys: dict[type[BaseModel], set[str]] = {}
    for section in _sections_in(settings):
        given_keys.setdefault(type(section), set()).update(section.model_fields_set)
    assert len(given_keys) == 12
    for model, keys in given_keys.items():
        assert keys == set(model.model_fields), model.__name__


def test_the_example_shows_the_defaults_that_hold(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, OPTION.sub("", EXAMPLE.read_text(encoding="utf-8")))
    for shown, default in [
        (settings.database, Database()),
        (settings.provider, Provider()),
        (settings.keys, Keys()),
        (settings.repair, RepairLimits()),
        (settings.canary, Canary()),
    ]:
        defaults = {key: value for key, value in default if value is not None}
        assert {key: value for key, value in shown if key in defaults} == defaults


def test_the_example_explains_every_option_in_its_line() -> None:
    options = [
        line
        for line in EXAMPLE.read_text(encoding="utf-8").splitlines()
        if re.match(r"#?[a-z_]+ = ", line)
    ]
    assert len(options) > 70
    for option in options:
        code, _, explanation = option.rpartition("  # ")
        assert explanation.strip(), option
        assert tomllib.loads(code.removeprefix("#")), option


def _sections_in(value: object) -> Iterator[BaseModel]:
    if isinstance(value, BaseModel):
        yield value
        for _, below in value:
            yield from _sections_in(below)
    elif isinstance(value, tuple):
        for entry in cast("tuple[object, ...]", value):
            yield from _sections_in(entry)
    elif isinstance(value, dict):
        for entry in cast("dict[object, object]", value).values():
            yield from _sections_in(entry)

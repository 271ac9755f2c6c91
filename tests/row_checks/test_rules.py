"""What makes a row fail, on real values however they are stored."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from checks.row_checks import applied
from checks.row_checks.applied import applied_checks
from checks.row_checks.built_in import BUILT_IN
from checks.row_checks.rules import ROW_CHECK_NAMES
from tests.builders.tables import DOCS, examined, failing, looking, rows, run, table
from tests.drivers.repairs import docs, environment, repaired, settings
from tests.drivers.repairs import examined as examined_with
from tests.servers.provider_server import ProviderServer

if TYPE_CHECKING:
    from checks.row_checks.row_check import RowCheck
    from checks.targets.target import Target
    from tests.builders.tables import Looker

RANDOM = "(SELECT array_agg(random() + 0 * g) FROM generate_series(1, {n}) AS g)"
ALIKE = "array_fill(0.5, ARRAY[{n}])"
MIXED = (
    "(SELECT array_agg(CASE WHEN g % 1000 >= 500 THEN random() ELSE 0.5 END)"
    " FROM generate_series(1, {n}) AS g)"
)


def counted(looker: Looker, target: Target) -> int:
    """Rows that fail `dimensionality`, as the scan counts them."""
    return looker.examine(target).failing("dimensionality")


def old_server(target: Target) -> Target:
    """The target as on PostgreSQL 16, which does not tell where a value is stored."""
    return replace(target, server=replace(target.server, version_number=160010))


@pytest.mark.parametrize("kind", ["vector", "halfvec"])
@pytest.mark.parametrize("storage", ["EXTERNAL", "EXTENDED", "MAIN"])
@pytest.mark.parametrize("value", [RANDOM, ALIKE, MIXED])
@pytest.mark.parametrize("declared", [3, 4000])
def test_a_dimension_is_the_same_however_its_vector_is_stored(
    database: str, kind: str, storage: str, value: str, declared: int
) -> None:
    run(
        database,
        f"CREATE TABLE docs (id serial PRIMARY KEY, body text, embedding {kind})",
        f"ALTER TABLE docs ALTER embedding SET STORAGE {storage}",
        *(
            f"INSERT INTO docs (body, embedding) VALUES ('x', {value.format(n=n)}::{kind})"
            for n in (1, 3, 3, 3999, 4000, 4000, 4000, 4001)
        ),
        "INSERT INTO docs (body) VALUES ('x')",
    )
    truth = f"SELECT count(*) FROM docs WHERE vector_dims(embedding) <> {declared}"
    with looking(database, table(dimensions=declared)) as looker:
        (target,) = looker.targets()
        measured = counted(looker, target), counted(looker, old_server(target))
    assert measured == (rows(database, truth)[0][0],) * 2


def test_the_values_of_that_test_are_inline_and_out_of_line_and_compressed(database: str) -> None:
    values = (RANDOM.format(n=3), RANDOM.format(n=4000), ALIKE.format(n=4000), MIXED.format(n=4000))
    run(
        database,
        "CREATE TABLE docs (id serial, embedding vector)",
        "ALTER TABLE docs ALTER embedding SET STORAGE EXTENDED",
        *(f"INSERT INTO docs (embedding) VALUES ({value}::vector)" for value in values),
    )
    stored = """SELECT pg_column_toast_chunk_id(embedding) IS NOT NULL,
                       pg_column_compression(embedding) IS NOT NULL FROM docs ORDER BY id"""
    assert rows(database, stored) == [(False, False), (True, False), (False, True), (True, True)]


def test_an_out_of_line_vector_is_measured_without_being_read(database: str) -> None:
    run(
        database,
        "CREATE TABLE docs (id serial PRIMARY KEY, body text, embedding vector)",
        "INSERT INTO docs (body, embedding)"
        f" SELECT 'x', {RANDOM.format(n=1536)}::vector FROM generate_series(1, 200)",
    )

    def toast_reads() -> int:
        run(database, "SELECT pg_stat_force_next_flush()")
        read = "SELECT toast_blks_hit + toast_blks_read FROM pg_statio_user_tables"
        total: int = rows(database, read)[0][0]
        return total

    others = {"degenerate": {"enabled": False}, "uniqueness": {"enabled": False}}
    with looking(database, table(dimensions=1536, checks=others)) as looker:
        (target,) = looker.targets()
        before = toast_reads()
        assert counted(looker, target) == 0
        looker.connection.execute("SELECT pg_stat_force_next_flush()")
        cheap = toast_reads() - before
        assert counted(looker, old_server(target)) == 0
        looker.connection.execute("SELECT pg_stat_force_next_flush()")
        dear = toast_reads() - before - cheap
    assert dear >= 200
    assert cheap == 0


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("sparsevec", "{1:1}/3", "{1:1}/4"),
        ("halfvec", "[1,2,3]", "[1,2]"),
        ("real[]", "{1,2,3}", "{1,2,3,4}"),
        ("double precision[]", "{1,2,3}", "{}"),
    ],
)
def test_every_embedding_type_is_measured(database: str, kind: str, good: str, bad: str) -> None:
    run(
        database,
        f"CREATE TABLE docs (id int PRIMARY KEY, body text, embedding {kind})",
        f"INSERT INTO docs VALUES (1, 'x', '{good}'), (2, 'x', '{bad}'), (3, 'x', NULL)",
    )
    examination = examined(database, table())
    assert failing(examination, "dimensionality") == {None: 1}
    assert failing(examination, "completeness") == {None: 1}


def test_a_dimension_that_the_column_proves_is_not_measured(database: str) -> None:
    run(database, DOCS, "ALTER TABLE docs ALTER embedding TYPE vector(3)")
    with looking(database, table()) as looker:
        (target,) = looker.targets()
        check = next(c for c in applied_checks(target) if c.name == "dimensionality")
    assert check.proof == "the column is vector(3), which holds no other dimension"
    assert check.predicate.as_string(None) == "false"


@pytest.mark.parametrize(
    ("text", "fails"),
    [
        ("'x'", True),
        ("' x '", True),
        ("''", False),
        ("NULL", False),
        ("E' \\t\\r\\n\\v\\f'", False),
        ("E'\\u00a0'", True),
        ("'.'", True),
    ],
)
def test_a_row_without_a_vector_fails_where_there_is_text_to_embed(
    database: str, text: str, fails: bool
) -> None:
    run(database, DOCS, f"INSERT INTO docs VALUES (1, 'a', {text}, NULL)")
    examination = examined(database, table(tenant="tenant"))
    assert failing(examination, "completeness") == ({"a": 1} if fails else {})
    assert examination.tables[0].measurements[0].not_embeddable == (0 if fails else 1)


@pytest.mark.parametrize(
    ("created_at", "fails"),
    [
        ("now()", False),
        ("now() - interval '14 minutes'", False),
        ("now() - interval '16 minutes'", True),
        ("now() + interval '1 day'", False),
        ("NULL", True),
        ("'-infinity'", True),
    ],
)
def test_a_row_without_a_vector_is_pending_within_its_grace(
    database: str, created_at: str, fails: bool
) -> None:
    run(database, DOCS, f"INSERT INTO docs VALUES (1, 'a', 'x', NULL, {created_at})")
    declared = table(tenant="tenant", created_at="created_at", grace="15 minutes")
    examination = examined(database, declared)
    assert failing(examination, "completeness") == ({"a": 1} if fails else {})
    assert examination.tables[0].measurements[0].pending == (0 if fails else 1)


def test_times_without_a_zone_are_utc_wherever_the_server_is(database: str) -> None:
    run(
        database,
        "CREATE TABLE docs (id int PRIMARY KEY, body text, embedding vector, made timestamp)",
        "INSERT INTO docs VALUES (1, 'x', NULL, now() AT TIME ZONE 'UTC' - interval '1 hour')",
        "ALTER DATABASE \"{}\" SET TimeZone = 'Asia/Tokyo'".format(database.rpartition("/")[2]),
    )
    examination = examined(database, table(created_at="made", grace="30 minutes"))
    assert failing(examination, "completeness") == {None: 1}


def test_a_check_of_one_s_own_is_its_condition_and_nothing_else(database: str) -> None:
    run(
        database,
        DOCS,
        "INSERT INTO docs VALUES (1, 'a', '100%'), (2, 'a', NULL), (3, 'a', '%s'), (4, 'a', 'b')",
    )
    long = "a_name_as_long_as_names_get_and_then_some_more_to_reach_the_limit"
    custom = [
        {"name": "percent", "failing_when": "body LIKE '100%' OR body = '%s' -- 100%"},
        {"name": f"{long}_1", "failing_when": "id = 1"},
        {"name": f"{long}_2", "failing_when": "id > 1"},
    ]
    examination = examined(database, table(tenant="tenant", custom=custom))
    assert failing(examination, "percent") == {"a": 2}
    assert failing(examination, f"{long}_1") == {"a": 1}
    assert failing(examination, f"{long}_2") == {"a": 3}


def test_settings_reach_the_check(database: str) -> None:
    run(database, DOCS)
    declared = table(
        checks={
            **{key: {"enabled": False} for key in ("completeness", "degenerate", "uniqueness")},
            "dimensionality": {"min": 0.9, "severity": "warning"},
            "odd": {"min": 0.5},
        },
        custom=[{"name": "odd", "failing_when": "id % 2 = 1", "remedy": "re-embed"}],
    )
    with looking(database, declared) as looker:
        checks = applied_checks(looker.targets()[0])
    assert [(c.name, c.min, c.severity, c.remedy) for c in checks] == [
        ("dimensionality", Decimal("0.9"), "warning", "re-embed"),
        ("odd", Decimal("0.5"), "error", "re-embed"),
    ]


ROW_CHECKS = (Path(__file__).parents[2] / "docs" / "row-checks.md").read_text(encoding="utf-8")


def test_every_built_in_rule_has_its_line_in_the_documentation() -> None:
    documented = re.findall(r"^\| `(\w+)` \|", ROW_CHECKS, re.MULTILINE)
    assert documented == [check.name for check in BUILT_IN]


def test_every_module_of_a_rule_is_called_like_its_check() -> None:
    assert sorted(ROW_CHECK_NAMES) == sorted(check.name for check in BUILT_IN)


def documented_module() -> str:
    (code,) = re.findall(r"^```python\n(.*?)^```$", ROW_CHECKS, re.MULTILINE | re.DOTALL)
    return str(code)


def test_a_rule_is_added_by_one_module_in_the_room_of_the_row_checks(tmp_path: Path) -> None:
    room = Path(applied.__file__).parent
    shutil.copytree(room.parent, tmp_path / "checks", ignore=shutil.ignore_patterns("*.pyc"))
    added = tmp_path / "checks" / "row_checks" / "rules" / "unit_length.py"
    added.write_text(documented_module(), encoding="utf-8")
    script = "from checks.row_checks.rules import ROW_CHECK_NAMES; print(*ROW_CHECK_NAMES)"

    run = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, check=True, capture_output=True, text=True
    )

    assert set(run.stdout.split()) == {*(check.name for check in BUILT_IN), "unit_length"}


def test_the_rule_that_the_documentation_adds_is_counted_selected_and_healed(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module: dict[str, RowCheck] = {}
    exec(documented_module(), module)
    monkeypatch.setattr(applied, "BUILT_IN", (*BUILT_IN, module["CHECK"]))
    with docs(database, {"acme": (6, 0)}) as table, ProviderServer() as server:
        table.execute("UPDATE docs SET embedding = embedding + embedding WHERE id IN (2, 5)")
        of = settings(server)
        assert examined_with(database, of).failing("unit_length") == 2
        done = repaired(database, of, tmp_path, keys=environment("acme"))
        assert done.counts() == {"selected": 2, "fixed": 2}
        assert examined_with(database, of).failing("unit_length") == 0

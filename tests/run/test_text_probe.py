"""`discover --probe`: the text of a proposed entry, by the vectors that are stored."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from checks.discovery.samples import SAMPLE_ROWS
from checks.exit_status import ExitStatus
from remediation.discover import main
from remediation.table_repair.probing.part_search import as_python
from tests.builders.tables import run
from tests.drivers.discoveries import examined
from tests.servers.nearby_texts import NearServer, near_literal

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KEY = "sk-discover-0001"
TAGS = as_python("meta -> 'tags'")
SENTENCE = "the tram stops at every corner of the old town.  Then it turns"


def notes(
    url: str, text_of: Callable[[str, str], str], *, rows: int = 14, table: str = "notes"
) -> None:
    """Rows embedded as an application's `text_of` has it, and one without a vector."""
    columns = "id int PRIMARY KEY, title text, body text, embedding vector(256)"
    run(url, f"CREATE TABLE {table} ({columns})")
    for number in range(rows + 1):
        title = f"Line {number}"
        body = "\n".join(f"{SENTENCE} {number * 5 + i}" for i in range(4))
        vector = f"'{near_literal(text_of(title, body))}'" if number < rows else "NULL"
        run(url, f"INSERT INTO {table} VALUES ({number}, '{title}', '{body}', {vector})")


class Discover:
    """The door, with what it printed."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
    ) -> None:
        self._monkeypatch, self._captured = monkeypatch, capfdbinary

    def run(self, url: str, server: NearServer, *options: str) -> dict[str, Any]:
        self._monkeypatch.setenv("DATABASE_URL", url)
        self._monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        self._monkeypatch.setenv("OPENAI_API_KEY", KEY)
        assert main(["--probe", "--model=text-embedding-3-small", *options]) == ExitStatus.HOLDS
        written = self._captured.readouterr()
        self.printed, self.said = written.out.decode(), written.err.decode()
        assert KEY not in self.printed + self.said
        self.entries = tomllib.loads(self.printed)["tables"]
        return dict(self.entries[0])


@pytest.fixture
def discover(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Discover:
    return Discover(monkeypatch, capfdbinary)


@pytest.mark.parametrize(
    ("text_of", "right"),
    [
        (lambda title, body: f"{title} | {body}", "concat_ws(' | ', title, body)"),
        (lambda _, body: body, "body"),
        (lambda title, _: title, "title"),
        (
            lambda title, body: f"{title}: {body}".replace("\n", " "),
            "replace(concat_ws(': ', title, body), E'\\n', ' ')",
        ),
    ],
    ids=["separator", "without its title", "the title alone", "two changes at once"],
)
def test_the_text_that_agrees_with_the_stored_vectors_is_printed(
    database: str, discover: Discover, text_of: Callable[[str, str], str], right: str
) -> None:
    notes(database, text_of)
    with NearServer() as server:
        entry = discover.run(database, server, "--fallback-env=OPENAI_API_KEY")
        assert entry["text"] == right
        assert "healthy rows, embedded again, agree (1.000000 to" in discover.printed
        # What it takes at most is said before.
        most = int(discover.said.partition("at most ")[2].partition(" requests")[0])
        assert len(server.requests) <= most


def test_a_guess_that_agrees_costs_one_request(database: str, discover: Discover) -> None:
    notes(database, lambda title, body: f"{title}\n\n{body}")
    with NearServer() as server:
        entry = discover.run(database, server, "--fallback-env=OPENAI_API_KEY")
        assert entry["text"] == r"concat_ws(E'\n\n', title, body)"
        assert [len(request.texts) for request in server.requests] == [3]
        assert "embedded again, agree (1.000000" in discover.printed


def test_where_no_text_agrees_the_cosines_are_told_and_the_guess_stands(
    database: str, discover: Discover
) -> None:
    notes(database, lambda title, body: f"{body[::-1]} {title[::-1]}")
    with NearServer() as server:
        entry = discover.run(database, server, "--fallback-env=OPENAI_API_KEY")
    assert entry["text"] == r"concat_ws(E'\n\n', title, body)"
    assert "# The text does not agree with all vectors that are stored" in discover.printed
    assert "of 12 healthy rows 0 agree, cosines 0." in discover.printed


def test_the_platform_s_key_is_not_used_unless_it_is_named(
    database: str, discover: Discover
) -> None:
    notes(database, lambda _, body: body)
    with NearServer() as server:
        discover.run(database, server)
        assert server.requests == []
    assert "# Its text was not probed: a row without a tenant" in discover.printed
    # What a person did not name is proposed alone.
    assert '#[keys]\n#fallback_env = "OPENAI_API_KEY"' in discover.printed
    assert "--fallback-env=NAME" in discover.printed
    with NearServer() as server:
        discover.run(database, server, "--fallback-env=OPENAI_API_KEY")
    assert tomllib.loads(discover.printed)["keys"] == {"fallback_env": "OPENAI_API_KEY"}


@pytest.mark.parametrize("own_key", [False, True])
def test_the_tenants_of_all_rows_are_listed_only_where_a_key_may_be_one_of_theirs(
    database: str, discover: Discover, monkeypatch: pytest.MonkeyPatch, own_key: bool
) -> None:
    """Two tenants' names make one variable; the second stands behind all rows that are sampled."""
    notes(database, lambda _, body: body)
    run(
        database,
        "ALTER TABLE notes ADD tenant_id text DEFAULT 'a-b'",
        "INSERT INTO notes SELECT n, 't', 'b', NULL, 'a-b'"
        f" FROM generate_series(100, {100 + SAMPLE_ROWS}) AS n",
        "INSERT INTO notes VALUES (99999, 't', 'b', NULL, 'a_b')",
        "ANALYZE notes",
    )
    if own_key:
        monkeypatch.setenv("OPENAI_API_KEY__A_B", KEY)
    with NearServer() as server:
        discover.run(database, server, "--fallback-env=OPENAI_API_KEY")
        assert bool(server.requests) is not own_key
    assert ("'a-b' and 'a_b' map to one environment variable" in discover.printed) is own_key


def test_a_pattern_s_table_with_another_text_gets_an_entry_of_its_own(
    database: str, discover: Discover, tmp_path: Path
) -> None:
    run(database, *(f"CREATE SCHEMA tenant_{name}" for name in ("ann", "bob", "eve")))
    for name in ("ann", "bob"):
        notes(database, lambda _, body: body, rows=16, table=f"tenant_{name}.notes")
    notes(database, lambda title, _: title, table="tenant_eve.notes")
    with NearServer() as server:
        discover.run(database, server, "--fallback-env=OPENAI_API_KEY")
    found = {entry["name"]: entry for entry in discover.entries}
    assert found["tenant_*.notes"]["text"] == "body"
    assert found["tenant_eve.notes"]["text"] == "title"
    after = examined(database, discover.printed, tmp_path)
    tenants = {s.segment.tenant for table in after.tables for s in table.measurements}
    assert tenants == {"ann", "bob", "eve"}


def test_a_title_in_the_metadata_is_found_in_front_of_the_text(
    database: str, discover: Discover
) -> None:
    notes(database, lambda title, body: f"{title}\n{body}")
    run(
        database,
        "ALTER TABLE notes ADD meta jsonb",
        "UPDATE notes SET meta = jsonb_build_object('heading', title, 'page', id)",
        "ALTER TABLE notes DROP title",
    )
    with NearServer() as server:
        entry = discover.run(database, server, "--fallback-env=OPENAI_API_KEY")
    assert entry["text"] == r"concat_ws(E'\n', meta ->> 'heading', body)"


@pytest.mark.parametrize(
    ("text_of", "right"),
    [
        (
            lambda meta, body: f"{meta['chapter']} - {meta['page']} - {body}",
            "concat_ws(' - ', meta ->> 'chapter', meta ->> 'page', body)",
        ),
        (
            lambda meta, body: "\n".join(
                [*(str(meta[k]) for k in ("by", "draft") if k in meta), body]
            ),
            r"concat_ws(E'\n', meta ->> 'by', initcap(meta ->> 'draft'), body)",
        ),
        (
            lambda meta, body: f"passage: {body} {meta['chapter']}",
            "'passage: ' || (concat_ws(' ', body, meta ->> 'chapter'))",
        ),
        (
            lambda meta, body: f"{meta['chapter']} {meta['page']}: {body}",
            "concat_ws(': ', concat_ws(' ', meta ->> 'chapter', meta ->> 'page'), body)",
        ),
        (
            lambda meta, body: f"{meta['tags']}, {meta['page']}, {body}",
            f"concat_ws(', ', {TAGS}, meta ->> 'page', body)",
        ),
        (
            lambda meta, body: f"Chapter: {meta['chapter']}\nbody: {body}",
            r"concat_ws(E'\n', 'Chapter: ' || (meta ->> 'chapter'), 'body: ' || body)",
        ),
    ],
    ids=[
        "a word and a number",
        "as Python has it",
        "behind a prefix",
        "two separators",
        "a list",
        "labels",
    ],
)
def test_what_was_joined_of_the_metadata_is_found(
    database: str,
    discover: Discover,
    text_of: Callable[[dict[str, Any], str], str],
    right: str,
) -> None:
    """Its path has the chapter's words too, and may not be taken for it."""
    run(
        database,
        "CREATE TABLE pages (id int PRIMARY KEY, body text, meta jsonb, embedding vector(256))",
    )
    for n in range(20):
        chapter = f"Part {n // 3} of {SENTENCE.split()[n % 12]}"
        meta: dict[str, Any] = {"path": f"/files/{chapter}/{n}", "chapter": chapter}
        meta |= {"page": n + 40, "lang": "en", "draft": n % 2 == 0, "tags": ["o'r", f"t{n}"]}
        if n % 4 == 0:
            meta["by"] = f"Dr. {'Ada Bobbie Cynthia Di Edna'[n:]}"
        body = f"{SENTENCE} {n * 7}, and {SENTENCE[n:]}"
        document = json.dumps(meta).replace("'", "''")
        near = near_literal(text_of(meta, body))
        run(database, f"INSERT INTO pages VALUES ({n}, '{body}', '{document}', '{near}')")
    with NearServer() as server:
        entry = discover.run(database, server, "--fallback-env=OPENAI_API_KEY")
        most = int(discover.said.partition("at most ")[2].partition(" requests")[0])
        assert len(server.requests) <= most
    assert entry["text"] == right


@pytest.mark.parametrize(
    ("text_of", "right"),
    [
        (
            lambda tags, body: "\n".join([", ".join(tags), body]),
            r"concat_ws(E'\n', array_to_string(tags, ', '), body)",
        ),
        (
            lambda tags, body: f"Tags: {' '.join(tags)}\n\n{body}",
            r"concat_ws(E'\n\n', 'Tags: ' || (array_to_string(tags, ' ')), body)",
        ),
        (
            lambda tags, body: f"{tags[-1][1:]} minutes\n{body}",
            r"concat_ws(E'\n', (meta ->> 'minutes') || ' minutes', body)",
        ),
    ],
    ids=["an array", "an array behind its name", "a number before its unit"],
)
def test_words_of_an_array_and_a_unit_are_found_beside_the_text(
    database: str,
    discover: Discover,
    text_of: Callable[[list[str], str], str],
    right: str,
) -> None:
    run(
        database,
        "CREATE TABLE pages (id int PRIMARY KEY, body text, tags text[], meta jsonb,"
        " embedding vector(256))",
    )
    for n in range(20):
        tags = [SENTENCE[n : n + 3 + n % 7].strip(), SENTENCE.split()[n % 12], f"t{n * 371 + 1009}"]
        body = f"{SENTENCE} {n * 7}, and {SENTENCE[n:]}"
        meta = json.dumps({"minutes": int(tags[-1][1:])})
        near = near_literal(text_of(tags, body))
        written = ", ".join(f"'{tag}'" for tag in tags)
        run(
            database,
            f"INSERT INTO pages VALUES ({n}, '{body}', ARRAY[{written}], '{meta}', '{near}')",
        )
    with NearServer() as server:
        entry = discover.run(database, server, "--fallback-env=OPENAI_API_KEY")
        most = int(discover.said.partition("at most ")[2].partition(" requests")[0])
        assert len(server.requests) <= most
    assert entry["text"] == right


def test_the_tenant_whose_rows_have_most_parts_is_asked(database: str, discover: Discover) -> None:
    run(
        database,
        "CREATE TABLE pages (id int PRIMARY KEY, tenant text, body text, meta jsonb,"
        " embedding vector(256))",
    )
    for n in range(24):
        tenant, body = "abc"[n % 3], f"{SENTENCE} {n * 7}, and {SENTENCE[n:]}"
        meta = {"edition": f"No. {n}"} if tenant == "b" else {}
        near = near_literal("\n".join([*meta.values(), body]))
        values = f"{n}, '{tenant}', '{body}', '{json.dumps(meta)}', '{near}'"
        run(database, f"INSERT INTO pages VALUES ({values})")
    with NearServer() as server:
        entry = discover.run(database, server, "--fallback-env=OPENAI_API_KEY")
    assert entry["text"] == r"concat_ws(E'\n', meta ->> 'edition', body)"


def test_one_row_of_another_text_hides_no_variant(database: str, discover: Discover) -> None:
    notes(database, lambda title, body: f"{title} - {body}")
    stray = near_literal("quarterly figures of a bakery, in millions")
    run(database, f"UPDATE notes SET embedding = '{stray}' WHERE id = 12")
    with NearServer() as server:
        entry = discover.run(database, server, "--fallback-env=OPENAI_API_KEY")
    assert entry["text"] == "concat_ws(' - ', title, body)"

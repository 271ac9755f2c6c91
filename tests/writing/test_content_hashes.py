"""Content hashes of several digests and types: recognised, held against the text, written."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

from tests.drivers.repairs import docs, environment, opened, repaired, settings
from tests.servers.provider_server import ProviderServer

if TYPE_CHECKING:
    from pathlib import Path

    from checks.settings.integrity_toml import Settings
    from tests.drivers.repairs import Docs

KEYS = environment("acme")


def digits_of(function: str, text: str) -> str:
    """A digest's hexadecimal digits; 10 of them for the one that may have any number."""
    if function == "shake_128":
        return hashlib.shake_128(text.encode()).hexdigest(5)
    return hashlib.new(function, text.encode()).hexdigest()


def hashed(table: Docs, function: str, of: str, kind: str) -> None:
    """Give every row the digest of something, and let two rows be edited after."""
    table.execute(f"ALTER TABLE docs ADD digest {kind}")
    for number, value in table.rows(f"id, {of}"):
        digits = digits_of(function, str(value))
        given = bytes.fromhex(digits) if kind == "bytea" else digits.upper()
        table.execute("UPDATE docs SET digest = %s WHERE id = %s", (given, number))


def declared(server: ProviderServer, **table: object) -> Settings:
    return settings(server, table={"content_hash": "digest", **table})


@pytest.mark.parametrize(
    ("function", "kind"), [("sha256", "bytea"), ("sha512", "text"), ("md5", "char(32)")]
)
def test_a_declared_digest_finds_the_stale_rows_and_is_written_in_its_form(
    database: str, tmp_path: Path, function: str, kind: str
) -> None:
    with docs(database, {"acme": (30, 1)}) as table, ProviderServer() as server:
        hashed(table, function, "body", kind)
        table.execute("UPDATE docs SET body = 'Ürün ' || id WHERE id IN (3, 4)")
        done = repaired(database, declared(server, hash=function), tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 3, "fixed": 3}
        assert table.wrong() == []
        for body, digest in table.rows("body, digest"):
            digits = hashlib.new(function, body.encode()).hexdigest()
            held = bytes(digest).hex() if kind == "bytea" else digest.lower()
            assert held == digits


@pytest.mark.parametrize(
    ("function", "of", "told"),
    [
        ("sha256", "body", 'declare hash = "sha256"'),
        ("sha1", "body", 'declare hash = "sha1"'),
        ("shake_128", "body", "holds the 32 hexadecimal digits of md5 in none of 31 sampled rows"),
        ("md5", "'page ' || id / 10", "holds the md5 of the text in none of 31 sampled rows"),
    ],
)
def test_hashes_of_another_form_stop_the_table_and_are_left_alone(
    database: str, function: str, of: str, told: str
) -> None:
    with docs(database, {"acme": (30, 1)}) as table, ProviderServer() as server:
        hashed(table, function, of, "text")
        with opened(database, declared(server), keys=KEYS) as repair:
            (problem,) = repair.examination.tables[0].target.problems
            assert told in problem.text
            assert problem.blocks
            assert repair.plan().tables == ()
        assert server.requests == []


def test_sha1_is_that_of_pgcrypto_or_cannot_be_declared(database: str, tmp_path: Path) -> None:
    with docs(database, {"acme": (30, 1)}) as table, ProviderServer() as server:
        hashed(table, "sha1", "body", "text")
        with opened(database, declared(server, hash="sha1"), keys=KEYS) as repair:
            (problem,) = repair.examination.tables[0].target.problems
            assert "CREATE EXTENSION pgcrypto" in problem.text
        # The tests' servers come without pgcrypto: a stand-in of its name and its digest().
        table.execute(
            "CREATE SCHEMA crypto; CREATE FUNCTION crypto.digest(bytea, text) RETURNS bytea"
            " LANGUAGE sql IMMUTABLE AS $$ SELECT substring(sha256($1) FOR 20) $$;"
            "INSERT INTO pg_extension SELECT 99, 'pgcrypto', extowner, 'crypto'::regnamespace,"
            " false, '1.3' FROM pg_extension LIMIT 1;"
            "UPDATE docs SET digest = encode(crypto.digest(body::bytea, 'sha1'), 'hex')"
        )
        table.execute("UPDATE docs SET body = 'Ürün ' || id WHERE id IN (3, 4)")
        done = repaired(database, declared(server, hash="sha1"), tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 3, "fixed": 3}
        right = "digest = encode(crypto.digest(convert_to(body, 'UTF8'), 'sha1'), 'hex')"
        assert not table.execute(f"SELECT FROM docs WHERE {right} IS NOT TRUE")


def test_a_hash_of_the_applications_own_making_is_declared_as_sql(
    database: str, tmp_path: Path
) -> None:
    own = "'v2:' || encode(sha256(convert_to(lower(btrim(body)), 'UTF8')), 'base64')"
    with docs(database, {"acme": (30, 1)}) as table, ProviderServer() as server:
        table.execute(f"ALTER TABLE docs ADD digest text; UPDATE docs SET digest = {own}")
        table.execute("UPDATE docs SET body = 'another ' || id WHERE id IN (3, 4)")
        with opened(database, declared(server), keys=KEYS) as repair:
            (problem,) = repair.examination.tables[0].target.problems
            assert "declare as `hash` an SQL expression" in problem.text
        done = repaired(database, declared(server, hash=own), tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 3, "fixed": 3}
        assert not table.execute(f"SELECT FROM docs WHERE digest IS DISTINCT FROM {own}")
        with opened(database, declared(server, hash="sha_265"), keys=KEYS) as repair:
            (problem,) = repair.examination.tables[0].target.problems
            assert 'hash: column "sha_265" does not exist' in problem.text


def test_a_few_rows_of_one_file_s_hash_are_not_taken_for_edited_ones(database: str) -> None:
    with docs(database, {"acme": (6, 1)}) as table, ProviderServer() as server:
        hashed(table, "md5", "'one file'", "text")
        with opened(database, declared(server), keys=KEYS) as repair:
            (problem,) = repair.examination.tables[0].target.problems
            assert "holds the md5 of the text in none of 7 sampled rows" in problem.text


@pytest.mark.parametrize("of", ["body", "'page ' || id / 10"])
def test_the_hashes_of_a_store_are_held_against_the_texts_of_the_table(
    database: str, tmp_path: Path, of: str
) -> None:
    with docs(database, {"acme": (30, 1)}) as table, ProviderServer() as server:
        table.execute(
            "CREATE TABLE vectors (doc bigint PRIMARY KEY, embedding vector(8), digest text);"
            f"INSERT INTO vectors SELECT id, embedding, encode(sha256(({of})::bytea), 'hex')"
            " FROM docs WHERE embedding IS NOT NULL;"
            "UPDATE docs SET body = 'another ' || id WHERE id IN (3, 4)"
        )
        store = {"name": "vectors", "key": ["doc"], "content_hash": "digest"}
        chosen = settings(server, table={"store": store, "hash": "sha256"})
        if of != "body":
            with opened(database, chosen, keys=KEYS) as repair:
                (problem,) = repair.examination.tables[0].target.problems
                assert "'digest' of vectors holds the sha256 of the text in none" in problem.text
            return
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 3, "fixed": 3}
        right = "count(*) FILTER (WHERE digest = encode(sha256(body::bytea), 'hex')), count(*)"
        joined = table.execute(f"SELECT {right} FROM vectors JOIN docs ON id = doc")
        assert joined == [(31, 31)]

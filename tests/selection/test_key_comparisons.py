"""Keys of types with operators of their own, in a schema that is not searched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.builders.tables import rows, run
from tests.drivers.repairs import environment, repaired, settings
from tests.drivers.rollbacks import rolled_back, run_of
from tests.drivers.writers import reading
from tests.servers.provider_server import ProviderServer

if TYPE_CHECKING:
    from pathlib import Path

KEYS = environment("acme")

OWN_TYPE = """
CREATE SCHEMA own;
CREATE TYPE own.code;
CREATE FUNCTION own.code_in(cstring) RETURNS own.code LANGUAGE internal IMMUTABLE STRICT
    AS 'textin';
CREATE FUNCTION own.code_out(own.code) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT
    AS 'textout';
CREATE TYPE own.code (INPUT = own.code_in, OUTPUT = own.code_out, LIKE = text, COLLATABLE = true);
{functions};
CREATE FUNCTION own.code_cmp(own.code, own.code) RETURNS integer LANGUAGE internal IMMUTABLE STRICT
    AS 'bttextcmp';
{operators};
CREATE OPERATOR CLASS own.code_ops DEFAULT FOR TYPE own.code USING btree AS
    OPERATOR 1 own.<, OPERATOR 2 own.<=, OPERATOR 3 own.=, OPERATOR 4 own.>=, OPERATOR 5 own.>,
    FUNCTION 1 own.code_cmp(own.code, own.code);
CREATE TABLE docs (
    code own.code, part varchar(9), tenant text, body text, embedding vector(8),
    PRIMARY KEY (code, part)
);
INSERT INTO docs
SELECT ('c' || n / 3)::own.code, 'p' || n %% 3, 'acme', 'text ' || n FROM generate_series(1, 9) AS n
"""
INTERNAL = {"<": "text_lt", "<=": "text_le", "=": "texteq", ">=": "text_ge", ">": "text_gt"}


def own_type(url: str) -> None:
    """A type that is compared as text is, by operators that stand in its schema alone."""
    functions = (
        f"CREATE FUNCTION own.{name}(own.code, own.code) RETURNS boolean LANGUAGE internal"
        f" IMMUTABLE STRICT AS '{name}'"
        for name in INTERNAL.values()
    )
    operators = (
        f"CREATE OPERATOR own.{symbol} (LEFTARG = own.code, RIGHTARG = own.code,"
        f" FUNCTION = own.{name})"
        for symbol, name in INTERNAL.items()
    )
    script = OWN_TYPE.format(functions=";".join(functions), operators=";".join(operators))
    run(url, *script.replace("%%", "%").split(";"))


def test_a_key_is_compared_by_the_operators_of_its_own_types(database: str, tmp_path: Path) -> None:
    own_type(database)
    with ProviderServer() as server:
        chosen = settings(server, tables=[{"name": "docs", "tenant": "tenant", "text": "body"}])
        with reading(database, chosen, "public.docs") as (reader, connection):
            found = [row.key for row in reader.failing_rows(connection, tenants=None)]
            assert len(found) == 9
            for place, key in enumerate(found):
                behind = reader.failing_rows(connection, tenants=None, after=key)
                assert [row.key for row in behind] == found[place + 1 :]
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 9, "fixed": 9}
        undone = rolled_back(database, chosen, tmp_path, run_of(done))
        assert undone.counts() == {"selected": 9, "restored": 9}
        assert rows(database, "SELECT FROM docs WHERE embedding IS NOT NULL") == []

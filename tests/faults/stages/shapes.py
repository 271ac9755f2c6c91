"""The shapes of the table `docs`: its SQL, its settings, and what keeps account of its writes.

Constants only.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from collections.abc import Mapping

Shape = Literal["hashed", "plain", "stored"]
"""How the application marks an edit: by a content hash, or by nulling the embedding itself.

`stored` is hashed, and keeps embeddings in a table of their own.
"""
SHAPES: tuple[Shape, ...] = get_args(Shape)

SETTINGS = """
[provider]
base_url = "http://127.0.0.1:9"
model = "text-embedding-3-small"
dimensions = 8
batch_size = {batch}
concurrency = {concurrency}

[keys]
env = "KEY_{{tenant}}"

[repair]
write_concurrency = {writers}

[[tables]]
name = "public.docs"
tenant = "tenant"
text = "body"
{more}
"""
DOCS = "tenant text NOT NULL, body text NOT NULL, note text NOT NULL DEFAULT 'kept'"
MORE: Mapping[Shape, str] = {
    "plain": "",
    "hashed": 'content_hash = "content_hash"',
    "stored": """
[tables.store]
name = "public.vectors"
key = ["doc_id"]
content_hash = "content_hash"
""",
}
COLUMNS = "embedding vector(8), content_hash text"
TABLES: Mapping[Shape, str] = {
    "plain": f"CREATE TABLE docs (id integer PRIMARY KEY, {DOCS}, {COLUMNS})",
    "hashed": f"CREATE TABLE docs (id integer PRIMARY KEY, {DOCS}, {COLUMNS})",
    "stored": f"""
CREATE TABLE docs (id integer PRIMARY KEY, {DOCS});
CREATE TABLE vectors (
    doc_id integer PRIMARY KEY REFERENCES docs ON DELETE CASCADE, {COLUMNS}
)""",
}


AUDIT = """
CREATE SCHEMA audit;
CREATE TABLE audit.writes (id integer, body text, vector text);
CREATE FUNCTION audit.enter() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO audit.writes VALUES (NEW.id, NEW.body, md5(vector_send(NEW.embedding)));
    RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER UPDATE ON docs FOR EACH ROW
WHEN (NEW.embedding IS DISTINCT FROM OLD.embedding AND NEW.embedding IS NOT NULL)
EXECUTE FUNCTION audit.enter();
"""
"""Keeps every vector that was ever written beside the text that it was written to."""

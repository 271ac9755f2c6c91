"""Each layout of docs/layouts.md as its framework makes it: DDL, and how a row gets there."""

from __future__ import annotations

import json
import uuid
from typing import Any

from tests.builders.layouts import (
    ANY_DIMENSION,
    DIMENSIONS,
    NOT_NULL,
    NULLABLE,
    WHOLE,
    Layout,
    Row,
    Statement,
)


def _once(statement: str, *values: Any) -> list[Statement]:
    return [(statement, values)]


def _langchain(row: Row, vector: str | None) -> list[Statement]:
    return [
        (
            "INSERT INTO langchain_pg_collection VALUES (%s, %s, '{}') ON CONFLICT DO NOTHING",
            (row.tenant_id, row.tenant),
        ),
        (
            "INSERT INTO langchain_pg_embedding VALUES (%s, %s, %s::vector, %s, %s)",
            (
                str(row.key),
                row.tenant_id,
                vector,
                row.body,
                json.dumps({"source": "a.md", "tenant": row.tenant}),
            ),
        ),
    ]


_LANGCHAIN = (
    """CREATE TABLE langchain_pg_collection (
        uuid uuid PRIMARY KEY, name varchar NOT NULL UNIQUE, cmetadata json)""",
    """CREATE TABLE langchain_pg_embedding (
        id varchar PRIMARY KEY,
        collection_id uuid REFERENCES langchain_pg_collection ON DELETE CASCADE,
        embedding vector, document varchar, cmetadata jsonb)""",
    """CREATE INDEX ix_cmetadata_gin ON langchain_pg_embedding
        USING gin (cmetadata jsonb_path_ops)""",
)
_LANGCHAIN_TABLES = ("langchain_pg_collection", "langchain_pg_embedding")


def _llama_index_node(row: Row) -> dict[str, Any]:
    metadata = {"file_name": f"{row.tenant}.md", "page": row.number, "secret": "left out"}
    return {"metadata": metadata, "excluded_embed_metadata_keys": ["secret"], "text": ""}


def _llama_index(row: Row, vector: str | None) -> list[Statement]:
    # `metadata_` holds the node's own metadata, and the node as a JSON string in JSON.
    node = _llama_index_node(row)
    metadata = {**node["metadata"], "_node_content": json.dumps(node), "_node_type": "TextNode"}
    return _once(
        f"INSERT INTO data_{row.tenant} (text, metadata_, node_id, embedding)"
        " VALUES (%s, %s, %s, %s::vector)",
        row.body,
        json.dumps(metadata),
        str(row.key),
        vector,
    )


def _llama_index_embedded(row: Row) -> str:
    told = f"file_name: {row.tenant}.md\npage: {row.number}\n\n{row.body}"
    return told.replace("\n", " ")


def _pgai(row: Row, vector: str | None) -> list[Statement]:
    return [
        (
            "INSERT INTO blog VALUES (%s, %s, %s, 'a post') ON CONFLICT DO NOTHING",
            (row.number, row.tenant, f"Post {row.number}"),
        ),
        (
            "INSERT INTO blog_embedding_store (id, chunk_seq, chunk, embedding)"
            " VALUES (%s, 0, %s, %s::vector)",
            (row.number, row.body, vector),
        ),
    ]


def _open_webui(row: Row, vector: str | None) -> list[Statement]:
    return _once(
        "INSERT INTO document_chunk VALUES (%s, %s::vector, %s, %s, %s)",
        str(row.key),
        vector,
        f"file-{row.tenant}",
        row.body,
        json.dumps({"source": "a.pdf"}),
    )


def _dify_part(tenant: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_OID, tenant)).replace("-", "_")


def _dify_table(tenant: str) -> str:
    # One character longer than a name may be: PostgreSQL cuts the last.
    return f"embedding_vector_index_{_dify_part(tenant)}_node"


def _dify(row: Row, vector: str | None) -> list[Statement]:
    return _once(
        f"INSERT INTO {_dify_table(row.tenant)} VALUES (%s, %s, %s, %s::vector)",
        row.key,
        row.body,
        json.dumps({"doc_id": str(row.key), "dataset_id": row.tenant}),
        vector,
    )


def _mem0(row: Row, vector: str | None) -> list[Statement]:
    payload = {"data": row.body, "hash": "-", "user_id": row.tenant, "created_at": "2026-01-02"}
    return _once(
        "INSERT INTO mem0 VALUES (%s, %s::vector, %s)", row.key, vector, json.dumps(payload)
    )


def _prisma(row: Row, vector: str | None) -> list[Statement]:
    embedded = None if vector is None else f"2026-02-0{1 if row.state == 'stale' else 3}"
    return _once(
        """INSERT INTO "Document" ("id", "tenantId", "title", "body", "updatedAt", "deletedAt",
            "embedding", "embeddedAt") VALUES (%s, %s, %s, %s, '2026-02-02', %s, %s::vector, %s)""",
        f"c{row.number}",
        row.tenant,
        row.title,
        row.body,
        "2026-02-02" if row.state == "deleted" else None,
        vector,
        embedded,
    )


def _django_user(tenant: str) -> int:
    return ("acme", "globex", "initech").index(tenant) + 1


def _django(row: Row, vector: str | None) -> list[Statement]:
    user = _django_user(row.tenant)
    return [
        ("INSERT INTO auth_user VALUES (%s, %s) ON CONFLICT DO NOTHING", (user, row.tenant)),
        (
            "INSERT INTO notes_note (user_id, title, content, created_at, updated_at, embedding)"
            " VALUES (%s, %s, %s, '2026-01-02', '2026-01-03', %s::vector)",
            (user, row.title, row.body, vector),
        ),
    ]


def _schema_per_tenant(row: Row, vector: str | None) -> list[Statement]:
    return _once(
        f"INSERT INTO tenant_{row.tenant}.documents (body, embedding) VALUES (%s, %s::vector)",
        row.body,
        vector,
    )


def _one_to_one(row: Row, vector: str | None) -> list[Statement]:
    statements: list[Statement] = [
        (
            "INSERT INTO articles VALUES (%s, %s, %s, %s)",
            (row.number, row.tenant, row.title, row.body),
        )
    ]
    if vector is not None:
        values = (row.number, vector)
        statements.append(("INSERT INTO article_embeddings VALUES (%s, %s::vector)", values))
    return statements


def _title_and_body(row: Row) -> str:
    return f"{row.title}\n\n{row.body}"


TENANTS = tuple(NULLABLE)

LAYOUTS = (
    Layout(
        heading="LangChain",
        create=_LANGCHAIN,
        insert=_langchain,
        tables=_LANGCHAIN_TABLES,
        rows=ANY_DIMENSION,
    ),
    Layout(
        heading="LangChain, the tenant in the metadata",
        create=_LANGCHAIN,
        insert=_langchain,
        tables=_LANGCHAIN_TABLES,
        rows=ANY_DIMENSION,
    ),
    Layout(
        heading="LangChain v2",
        create=(
            f"""CREATE TABLE "public"."knowledge" (
                "langchain_id" UUID PRIMARY KEY, "content" TEXT NOT NULL,
                "embedding" vector({DIMENSIONS}) NOT NULL, "langchain_metadata" JSON)""",
        ),
        insert=lambda row, vector: _once(
            "INSERT INTO knowledge VALUES (%s, %s, %s::vector, %s)",
            row.key,
            row.body,
            vector,
            json.dumps({"tenant_id": row.tenant}),
        ),
        tables=("knowledge",),
        rows=NOT_NULL,
    ),
    Layout(
        heading="LlamaIndex",
        create=tuple(
            f"""CREATE TABLE data_{tenant} (
                id bigserial PRIMARY KEY, text varchar NOT NULL, metadata_ json,
                node_id varchar, embedding vector({DIMENSIONS}))"""
            for tenant in TENANTS
        ),
        insert=_llama_index,
        tables=tuple(f"data_{tenant}" for tenant in TENANTS),
        rows={**NULLABLE, "acme": (*WHOLE, "missing", "stub", "stub")},
        embedded=_llama_index_embedded,
    ),
    Layout(
        heading="pgai vectorizer",
        create=(
            "CREATE TABLE blog (id int PRIMARY KEY, tenant_id text, title text, contents text)",
            f"""CREATE TABLE blog_embedding_store (
                embedding_uuid uuid NOT NULL PRIMARY KEY DEFAULT gen_random_uuid(),
                id int NOT NULL, chunk_seq int NOT NULL, chunk text NOT NULL,
                embedding vector({DIMENSIONS}) STORAGE MAIN NOT NULL, UNIQUE (id, chunk_seq))""",
            """CREATE VIEW blog_embedding AS
                SELECT t.embedding_uuid, t.chunk_seq, t.chunk, t.embedding, t.id,
                       s.tenant_id, s.title, s.contents
                FROM blog_embedding_store AS t LEFT OUTER JOIN blog AS s ON t.id = s.id""",
        ),
        insert=_pgai,
        tables=("blog", "blog_embedding_store"),
        rows=NOT_NULL,
    ),
    Layout(
        heading="Open WebUI",
        create=(
            f"""CREATE TABLE document_chunk (
                id text PRIMARY KEY, vector vector({DIMENSIONS}), collection_name text NOT NULL,
                text text, vmetadata jsonb)""",
            """CREATE INDEX idx_document_chunk_vector ON document_chunk
                USING ivfflat (vector vector_cosine_ops) WITH (lists = 100)""",
            """CREATE INDEX idx_document_chunk_collection_name
                ON document_chunk (collection_name)""",
        ),
        insert=_open_webui,
        tables=("document_chunk",),
        embedding="vector",
        segment=lambda tenant: f"file-{tenant}",
    ),
    Layout(
        heading="Dify",
        create=tuple(
            f"""CREATE TABLE {_dify_table(tenant)} (
                id UUID PRIMARY KEY, text TEXT NOT NULL, meta JSONB NOT NULL,
                embedding vector({DIMENSIONS}) NOT NULL) USING heap"""
            for tenant in TENANTS
        ),
        insert=_dify,
        tables=tuple(_dify_table(tenant) for tenant in TENANTS),
        rows=NOT_NULL,
        segment=_dify_part,
    ),
    Layout(
        heading="Haystack",
        create=(
            f"""CREATE TABLE haystack_documents (
                id VARCHAR(128) PRIMARY KEY, embedding VECTOR({DIMENSIONS}), content TEXT,
                blob_data BYTEA, blob_meta JSONB, blob_mime_type VARCHAR(255), meta JSONB)""",
        ),
        insert=lambda row, vector: _once(
            "INSERT INTO haystack_documents (id, embedding, content, meta)"
            " VALUES (%s, %s::vector, %s, %s)",
            row.key,
            vector,
            row.body,
            json.dumps({"tenant_id": row.tenant, "page": 1}),
        ),
        tables=("haystack_documents",),
    ),
    Layout(
        heading="mem0",
        create=(
            f"CREATE TABLE mem0 (id UUID PRIMARY KEY, vector vector({DIMENSIONS}), payload JSONB)",
            "CREATE INDEX mem0_hnsw_idx ON mem0 USING hnsw (vector vector_cosine_ops)",
        ),
        insert=_mem0,
        tables=("mem0",),
        embedding="vector",
        embedded=lambda row: row.body.replace("\n", " "),
    ),
    Layout(
        heading="Prisma",
        create=(
            f"""CREATE TABLE "Document" (
                "id" TEXT NOT NULL, "tenantId" TEXT NOT NULL, "title" TEXT NOT NULL,
                "body" TEXT NOT NULL,
                "createdAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
                "updatedAt" TIMESTAMP(3) NOT NULL, "deletedAt" TIMESTAMP(3),
                "embedding" vector({DIMENSIONS}), "embeddedAt" TIMESTAMP(3),
                CONSTRAINT "Document_pkey" PRIMARY KEY ("id"))""",
            """CREATE INDEX "Document_embedding_idx" ON "Document"
                USING hnsw ("embedding" vector_cosine_ops)""",
        ),
        insert=_prisma,
        tables=('"Document"',),
        rows={
            "acme": (*WHOLE, "missing", "stale", "stale", "blank"),
            "globex": (*WHOLE, "zero", "deleted"),
            "initech": (*WHOLE, "deleted"),
        },
        embedded=_title_and_body,
        written=frozenset({"embeddedAt"}),
    ),
    Layout(
        heading="Django",
        create=(
            "CREATE TABLE auth_user (id integer PRIMARY KEY, username varchar(150) NOT NULL)",
            f"""CREATE TABLE notes_note (
                id bigint GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
                user_id integer NOT NULL REFERENCES auth_user DEFERRABLE INITIALLY DEFERRED,
                title varchar(200) NOT NULL, content text NOT NULL,
                created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL,
                embedding vector({DIMENSIONS}))""",
        ),
        insert=_django,
        tables=("auth_user", "notes_note"),
        embedded=_title_and_body,
        segment=lambda tenant: str(_django_user(tenant)),
    ),
    Layout(
        heading="One schema per tenant",
        create=tuple(
            statement
            for tenant in TENANTS
            for statement in (
                f"CREATE SCHEMA tenant_{tenant}",
                f"""CREATE TABLE tenant_{tenant}.documents (
                    id bigserial PRIMARY KEY, body text, embedding vector({DIMENSIONS}))""",
            )
        ),
        insert=_schema_per_tenant,
        tables=tuple(f"tenant_{tenant}.documents" for tenant in TENANTS),
    ),
    Layout(
        heading="Embeddings in a table of their own",
        create=(
            """CREATE TABLE articles (
                id bigint PRIMARY KEY, tenant_id text NOT NULL, title text, body text)""",
            f"""CREATE TABLE article_embeddings (
                article_id bigint PRIMARY KEY REFERENCES articles ON DELETE CASCADE,
                embedding vector({DIMENSIONS}) NOT NULL,
                created_at timestamptz NOT NULL DEFAULT now())""",
        ),
        insert=_one_to_one,
        tables=("articles", "article_embeddings"),
        embedded=_title_and_body,
    ),
)

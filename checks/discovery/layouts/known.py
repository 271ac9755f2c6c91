"""Recognises the layouts of common frameworks by table and columns (docs/layouts.md).

Compares names only: asks no database.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from checks.discovery.layouts.candidates import STORE_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from checks.database.catalog import Relation


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownLayout:
    """A layout that a framework makes, and what its columns mean."""

    title: str
    table: str
    """A regular expression that matches the whole name of the table."""
    columns: frozenset[str]
    embedding: str
    text: str
    tenant: str | None = None
    """SQL, with {schema} for the table's schema; None: guessed as for any other table."""
    only: bool = False
    """Whether no other columns may be there: for layouts whose names alone prove little."""
    remark: str | None = None

    def fits(self, relation: Relation) -> bool:
        """Whether the relation is of this layout."""
        names = relation.columns.keys()
        return (
            re.fullmatch(self.table, relation.name) is not None
            and self.columns <= names
            and not (self.only and names - self.columns)
        )

    def tenant_in(self, relation: Relation, quoted: Mapping[str, str]) -> str | None:
        """The tenant's expression for one relation."""
        if self.tenant is None:
            return None
        return self.tenant.replace("{schema}", quoted[relation.schema])


PYTHON_STR = r"""(
                    SELECT string_agg(CASE
                        WHEN found[1] NOT LIKE '"%' THEN replace(replace(replace(
                            found[1], 'true', 'True'), 'false', 'False'), 'null', 'None')
                        WHEN strpos(plain, chr(39)) > 0 AND strpos(plain, '"') = 0
                            THEN '"' || plain || '"'
                        ELSE chr(39) || replace(plain, chr(39), chr(92) || chr(39)) || chr(39)
                        END, '' ORDER BY piece)
                    FROM regexp_matches(value::text, '"(?:[^"\\]|\\.)*"|[^"]+', 'g')
                         WITH ORDINALITY AS of_value (found, piece)
                    CROSS JOIN LATERAL (SELECT CASE WHEN found[1] LIKE '"%' THEN
                        replace(replace(replace(replace(found[1]::json #>> '{}',
                            chr(92), chr(92) || chr(92)), E'\n', chr(92) || 'n'),
                            E'\r', chr(92) || 'r'), E'\t', chr(92) || 't') END AS broken
                    ) AS of_string
                    CROSS JOIN LATERAL (SELECT string_agg(CASE
                        WHEN sign !~ ('[\u0001-\u001f\u007f-\u00a0\u00ad\u061c\u1680\u180e'
                            '\u2000-\u200f\u2028-\u202f\u205f-\u206f\u3000\ue000-\uf8ff'
                            '\ufeff\ufff9-\ufffb]') THEN sign
                        ELSE chr(92) || CASE WHEN ascii(sign) < 256
                            THEN 'x' || lpad(to_hex(ascii(sign)), 2, '0')
                            ELSE 'u' || lpad(to_hex(ascii(sign)), 4, '0') END
                        END, '' ORDER BY place) AS plain
                        FROM regexp_split_to_table(broken, '')
                             WITH ORDINALITY AS of_sign (sign, place)
                    ) AS of_signs
                )"""
"""A JSON value, given as `value`, as Python's str() writes it: True, None, ['a', 'b']."""

LLAMA_INDEX_TEXT = r"""replace((
    SELECT CASE WHEN told = '' THEN text ELSE btrim(replace(replace(
        coalesce(node ->> 'text_template', E'{metadata_str}\n\n{content}'),
        '{metadata_str}', told), '{content}', text), E' \t\n\r\f\v') END
    FROM (SELECT (metadata_ ->> '_node_content')::json AS node) AS of_row
    CROSS JOIN LATERAL (
        SELECT btrim(coalesce(string_agg(replace(replace(
                coalesce(node ->> 'metadata_template', '{key}: {value}'),
                '{key}', key), '{value}', CASE WHEN json_typeof(value) = 'string'
                THEN value #>> '{}' ELSE @python@ END),
            coalesce(node ->> 'metadata_separator', node ->> 'metadata_seperator', E'\n')
            ORDER BY position), ''), E' \t\n\r\f\v') AS told
        FROM json_each(node -> 'metadata') WITH ORDINALITY AS of_node (key, value, position)
        WHERE NOT coalesce((node -> 'excluded_embed_metadata_keys')::jsonb ? key, false)
    ) AS of_metadata
), E'\n', ' ')""".replace("@python@", PYTHON_STR)
"""What get_content(MetadataMode.EMBED) of llama-index-core gives: metadata as Python's str() writes
them, in the node's own templates; with spaces for line breaks, as its OpenAI client sends it."""

AS_WRITTEN = "THEN value #>> '{}' ELSE"
AS_DATETIMES = r"""THEN CASE
                WHEN value #>> '{}' ~ '^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?(Z|[+-]\d\d:\d\d)?$'
                THEN replace(replace(value #>> '{}', 'T', ' '), 'Z', '+00:00')
                ELSE value #>> '{}' END ELSE"""
"""Strings of a node's metadata, and datetimes, which JSON has in another form than str()."""


def with_datetimes(llama_index_text: str) -> str:
    """LlamaIndex's text, if it is one, where such strings of the metadata were datetimes."""
    return llama_index_text.replace(AS_WRITTEN, AS_DATETIMES)


KNOWN = (
    KnownLayout(
        title="LangChain",
        table="langchain_pg_embedding",
        columns=frozenset({"collection_id", "embedding", "document", "cmetadata"}),
        embedding="embedding",
        text="document",
        tenant="(SELECT name FROM {schema}.langchain_pg_collection WHERE uuid = collection_id)",
        remark="a collection is taken as a tenant; a key of the metadata: cmetadata ->> 'tenant'",
    ),
    KnownLayout(
        title="LangChain v2",
        table=".+",
        columns=frozenset({"langchain_id", "content", "embedding"}),
        embedding="embedding",
        text="content",
    ),
    KnownLayout(
        title="LlamaIndex",
        table="data_.+",
        columns=frozenset({"id", "text", "metadata_", "node_id", "embedding"}),
        embedding="embedding",
        text=LLAMA_INDEX_TEXT,
        remark="a node's metadata is embedded above its text, but for the keys it excludes; line"
        " breaks are spaces, as its OpenAI client has them: else take the outer replace away;"
        " whether strings in it were datetimes, discover --probe finds out by the vectors",
    ),
    KnownLayout(
        title="pgai vectorizer",
        table=f".+{STORE_SUFFIX}",
        columns=frozenset({"embedding_uuid", "chunk_seq", "chunk", "embedding"}),
        embedding="embedding",
        text="chunk",
        remark="chunk is the text as it was sent",
    ),
    KnownLayout(
        title="Open WebUI",
        table="document_chunk",
        columns=frozenset({"id", "vector", "collection_name", "text", "vmetadata"}),
        embedding="vector",
        text="text",
        tenant="collection_name",
        remark="vectors of a smaller model are filled up with zeros: see docs/layouts.md",
    ),
    KnownLayout(
        # 64 characters with the last letter of `node`, which PostgreSQL therefore cuts off.
        title="Dify",
        table="embedding_vector_index_.+_node?",
        columns=frozenset({"id", "text", "meta", "embedding"}),
        embedding="embedding",
        text="text",
        remark="one table per data set",
    ),
    KnownLayout(
        title="Haystack",
        table=".+",
        columns=frozenset({"id", "embedding", "content", "blob_data", "blob_meta", "meta"}),
        embedding="embedding",
        text="content",
        remark="meta_fields_to_embed stand above the content: concat_ws(E'\n', meta ->> 'title',"
        " coalesce(content, '')); discover --probe finds out which by the vectors",
    ),
    KnownLayout(
        title="mem0",
        table=".+",
        columns=frozenset({"id", "vector", "payload"}),
        only=True,
        embedding="vector",
        text="replace(payload ->> 'data', E'\\n', ' ')",
        tenant="coalesce(payload ->> 'user_id', payload ->> 'agent_id', payload ->> 'run_id')",
        remark="a memory is its user's, or else its agent's, or its run's",
    ),
)


def known_layout(relation: Relation) -> KnownLayout | None:
    """The layout of a framework that a relation is of, if any."""
    return next((layout for layout in KNOWN if layout.fits(relation)), None)

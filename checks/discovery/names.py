"""Lists the usual names of columns and JSON keys, by what they hold. Asks nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from checks.targets.provenance import HASH_TYPES, TIME_TYPES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from checks.database.catalog import Column

# Lower case, without underscores, the most certain first.
TEXT = (
    "content", "contents", "body", "text", "chunk", "chunktext", "pagecontent", "rawtext",
    "fulltext", "document", "passage", "transcript", "message", "description", "summary",
    "abstract", "note", "notes", "comment", "question", "answer", "caption",
    "raw", "details", "instructions", "overview", "review", "feedback", "reply", "prompt",
    "response", "excerpt", "snippet", "story", "article", "observation", "bio",
)  # fmt: skip
# Put together for the model already, so that no title goes in front.
COMPOSED = (
    "embeddingtext", "embeddedtext", "embeddinginput", "embeddingcontent", "embedtext",
    "texttoembed", "textforembedding", "searchtext", "searchabletext", "compiled",
)  # fmt: skip
TITLES = ("title", "subject", "heading", "headline")
JSON_TEXT = ("data", "text", "content", "pagecontent", "body", "chunk", "document", "memory")
TENANTS = (
    "tenantid", "tenant", "tenantuuid", "tenantname", "tenantslug", "organizationid",
    "organisationid", "orgid", "organization", "organisation", "org", "workspaceid", "workspace",
    "accountid", "account", "companyid", "company", "customerid", "customer", "clientid", "teamid",
    "team", "userid", "ownerid", "owner", "collectionname", "collectionid", "collection",
    "namespace", "datasetid", "shopid", "siteid", "projectid",
)  # fmt: skip
JSON_TENANTS = tuple(name for name in TENANTS if not name.startswith(("collection", "namespace")))
CREATED = (
    "createdat", "created", "createdon", "insertedat", "datecreated", "creationdate", "createtime",
    "createdtime", "creationtime", "inserttime",
)  # fmt: skip
UPDATED = (
    "updatedat", "modifiedat", "lastmodified", "updated", "modified", "updatedon", "updatetime",
    "updatedtime", "modifytime", "modifiedtime", "dateupdated", "datemodified",
)  # fmt: skip
EMBEDDED = ("embeddedat", "embeddingupdatedat", "embeddingcreatedat", "vectorizedat")
HASHES = ("contenthash", "texthash", "bodyhash", "embeddinghash", "contentmd5", "hash", "md5")
MODELS = ("embeddingmodel", "embeddingmodelname", "embeddermodel", "modelname", "model")
PARENTS = ("parentid", "parentuuid", "parentchunkid", "parentnodeid", "parentdocumentid", "parent")
DELETED = ("deletedat", "deletedon", "removedat", "isdeleted", "deleted")
# What is embedded without words.
UNWORDED = re.compile(r"image|img|photo|picture|visual|thumbnail|video|audio|voice|face|sound")
# Words of names that tell of a row and are no text of it: error_message.
NO_TEXT = frozenset({"error", "failure", "warning", "status", "debug", "log", "alt", "meta"})
# Labels of a row: never its text, even where the table has no other text column.
LABELS = (
    "status", "state", "kind", "type", "category", "lang", "language", "locale", "url", "uri",
    "path", "filename", "source", "slug", "email", "name", "username", "role", "externalid", "key",
    "nodeid", "customid", "indexid", "currency", "color", "tag",
)  # fmt: skip

TEXT_TYPES = ("text", "character varying", "character", "citext")
HASH_COLUMN_TYPES = tuple(sorted({name for kind in HASH_TYPES for name in kind.names}))
JSON_TYPES = ("jsonb", "json")
NO_TENANT_TYPES = (
    *JSON_TYPES, *TIME_TYPES, "boolean", "bytea", "real", "double precision",
)  # fmt: skip


NAMES_A_ROW = re.compile(r"(^|_)(id|uuid|guid)$|(?<=[a-z0-9])(Id|ID|Uuid|UUID)$", re.ASCII)
"""The end of a column's name that holds the key of a row: not that of `said` or `paid`."""


def plain(name: str) -> str:
    """A name without case and separators: tenantId, tenant_id and "Tenant ID" are one."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def named(
    columns: Iterable[Column],
    names: Sequence[str],
    *,
    types: Sequence[str] | None = None,
    not_types: Sequence[str] = (),
) -> list[Column]:
    """The readable columns of one of these names and types, in the order of the names."""
    fitting = [
        column
        for column in columns
        if column.readable
        and plain(column.name) in names
        and (types is None or column.type in types)
        and column.type not in not_types
    ]
    return sorted(fitting, key=lambda column: names.index(plain(column.name)))


def ending_in(
    columns: Iterable[Column], names: Sequence[str], *, types: Sequence[str]
) -> list[Column]:
    """Columns whose name is one of these behind another word: bodyText, post_content."""
    found = [
        (names.index(last), column)
        for column in columns
        for *before, last in [words_of(column.name)]
        if before and last in names and column.readable and column.type in types
    ]
    told = [each for each in found if not NO_TEXT.intersection(words_of(each[1].name))]
    return [column for _, column in sorted(told, key=lambda each: each[0])]


def words_of(name: str) -> list[str]:
    """The words of a name: body and text of bodyText, body_text and "Body Text"."""
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+", name)] or [""]


def subject_of(embedding: str) -> str:
    """The column that an embedding column is named after: `body` of body_embedding, else ''."""
    return re.sub(r"(embeddings?|embed|vectors?|vec)", "", plain(embedding))

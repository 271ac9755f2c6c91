"""The embedding types of PostgreSQL and how SQL speaks to each: dimension, bytes, norm, cast.

Builds expressions only; runs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from psycopg import sql

if TYPE_CHECKING:
    from numpy.typing import NDArray

VARIABLE_HEADER = 4
"""Bytes of a varlena header, part of an inline value's size but not of one stored out of line."""

VECTOR_HEADER = 8
"""Bytes before the elements of a `vector` or `halfvec` value, varlena header included."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddingType:
    """One type that may hold an embedding.

    `element_bytes` is None where the stored size does not tell the dimension.
    """

    name: str
    from_extension: bool
    send: str
    element_bytes: int | None

    def function(self, name: str, schema: str | None) -> sql.Composable:
        """A function of the type, qualified, as the extension's schema may not be on the path."""
        return sql.Identifier(schema, name) if schema else sql.Identifier(name)

    def dimension(self, value: sql.Composable, schema: str | None) -> sql.Composable:
        """SQL for the number of dimensions of a value (reads the value)."""
        if not self.from_extension:
            return sql.SQL("pg_catalog.cardinality({})").format(value)
        if self.name == "sparsevec":
            # pgvector has no dimension function for sparsevec; its text ends in /dimensions.
            return sql.SQL("pg_catalog.split_part({}::text, '/', 2)::int").format(value)
        return sql.SQL("{}({})").format(self.function("vector_dims", schema), value)

    def bytes(self, value: sql.Composable, schema: str | None) -> sql.Composable:
        """SQL for the value's binary form, the same on every server; what guards a write."""
        owner = schema if self.from_extension else "pg_catalog"
        return sql.SQL("{}({})").format(self.function(self.send, owner), value)

    def cast_from_vector(self, value: sql.Composable, schema: str | None) -> sql.Composable:
        """SQL that turns a `vector` into this type."""
        vector_to_array = sql.SQL("{}::real[]").format(value)
        if self.name == "real[]":
            return vector_to_array
        if self.name == "double precision[]":
            return sql.SQL("({})::double precision[]").format(vector_to_array)
        if self.name == "vector":
            return value
        return sql.SQL("{}::{}").format(value, self.function(self.name, schema))


EMBEDDING_TYPES = {
    kind.name: kind
    for kind in (
        EmbeddingType(name="vector", from_extension=True, send="vector_send", element_bytes=4),
        EmbeddingType(name="halfvec", from_extension=True, send="halfvec_send", element_bytes=2),
        EmbeddingType(
            name="sparsevec", from_extension=True, send="sparsevec_send", element_bytes=None
        ),
        EmbeddingType(name="real[]", from_extension=False, send="array_send", element_bytes=None),
        EmbeddingType(
            name="double precision[]", from_extension=False, send="array_send", element_bytes=None
        ),
    )
}


def vector_bytes(value: sql.Composable, schema: str | None) -> sql.Composable:
    """SQL for the binary form of a value of any embedding type, as a `vector`."""
    vector = EMBEDDING_TYPES["vector"]
    cast = sql.SQL("{}::{}").format(value, vector.function("vector", schema))
    return vector.bytes(cast, schema)


def from_vector_bytes(stored: bytes) -> NDArray[np.float32]:
    """A vector (float32, shape (dimensions,)) from what vector_send() gives.

    Two 16-bit integers, the dimension and a reserved one, then big-endian floats (pgvector's
    vector_send in src/vector.c).
    """
    return np.frombuffer(stored, dtype=">f4", offset=4).astype(np.float32)

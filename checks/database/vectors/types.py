"""Builds SQL for each embedding type: its dimension, bytes, norm and cast.

Builds expressions only; runs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from psycopg import sql

from checks.database.vectors.health import elements_out_of_range, out_of_range

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

VARIABLE_HEADER = 4
"""Bytes of a varlena header, part of an inline value's size but not of one stored out of line."""


LEAST_PADDED = 16
"""Dimensions from which a zero-padded tail is looked for; a shorter one may be zero by chance."""

TAIL_SHARE = 8
"""The last eighth of the dimensions, all zero, is padding.

Every smaller common size in a larger column leaves at least as much: 384 in 512, 768 in 1024 and
1536 in 2048 a quarter, 1024 in 1536 a third, 1536 in 2000 a fifth, 1536 in 3072 a half. A model's
own vector has no such tail: each dimension is a real number.
"""


def padded_tail(dimensions: int) -> int:
    """How many last elements count as padding where all of them are zero; 0: none do."""
    return dimensions // TAIL_SHARE if dimensions >= LEAST_PADDED else 0


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
        """A function of the type, qualified: the extension's schema may not be on the path."""
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
        """SQL for the value's binary form, which is the same on every server and guards a write."""
        owner = schema if self.from_extension else "pg_catalog"
        return sql.SQL("{}({})").format(self.function(self.send, owner), value)

    def norm(
        self, value: sql.Composable, *, of_tail: int | None, dimensions: int, schema: str | None
    ) -> sql.Composable:
        """SQL for the Euclidean norm of a value of pgvector's, or of its last `of_tail` elements.

        The tail is that of a value of `dimensions`. Reads the value.
        """
        name = "vector_norm" if self.name == "vector" else "l2_norm"
        if of_tail is not None:
            value = sql.SQL("{}({}, {}, {})").format(
                self.function("subvector", schema),
                value,
                sql.Literal(dimensions - of_tail + 1),
                sql.Literal(of_tail),
            )
        return sql.SQL("{}({})").format(self.function(name, schema), value)

    def hash(self, value: sql.Composable, schema: str | None) -> sql.Composable:
        """SQL that is equal for equal values and seldom for others, cheaper than their md5."""
        if self.from_extension:
            return self.norm(value, of_tail=None, dimensions=0, schema=schema)
        return sql.SQL("pg_catalog.hash_array_extended({}, 0)").format(value)

    def no_meaning(
        self,
        value: sql.Composable,
        *,
        dimensions: int,
        schema: str | None,
        filled: int | None = None,
    ) -> sql.Composable:
        """SQL that is true of a value that pgvector cannot compute with, see `health`, or
        with its tail padded with zeros.

        Where only the first `filled` elements are the model's, the tail is that of these, and it is
        also true of a value with another element than zero behind them.
        For an array also: NaN, infinity, NULL elements, or several axes; pgvector's types refuse
        them. False for any other value, NULL for no value. Reads the value.
        """
        tail = padded_tail(filled or dimensions)
        wrong: list[sql.Composable] = []
        if self.name == "sparsevec":
            # Its text ends in the last element that is not zero and the dimension: {1:2,7:0.5}/9.
            # A cast to `vector` would be refused beyond 16,000 dimensions.
            last = sql.SQL("pg_catalog.substring({}::text, '([0-9]+):[^:,]*[}}]')::int").format(
                value
            )
            if tail:
                before = sql.Literal((filled or dimensions) - tail)
                wrong.append(sql.SQL("{} <= {}").format(last, before))
            if filled is not None:
                wrong.append(sql.SQL("{} > {}").format(last, sql.Literal(filled)))
            norm = self.norm(value, of_tail=None, dimensions=dimensions, schema=schema)
            return _either(
                out_of_range(norm, self.name),
                self._of_dimension(wrong, value, dimensions, schema),
            )
        array = sql.SQL("({}::real[])").format(value) if self.from_extension else value
        nought = sql.SQL("0::float8" if self.name == "double precision[]" else "0::real")
        if self.from_extension:
            norm = self.norm(value, of_tail=None, dimensions=dimensions, schema=schema)
            zero = out_of_range(norm, self.name)
        else:
            element = sql.SQL("float8" if self.name == "double precision[]" else "real")
            zero = elements_out_of_range(array, element, dimensions)
        # An array's subscripts may begin anywhere; those of a cast vector begin at 1.
        end = (
            sql.Literal(dimensions)
            if self.from_extension
            else sql.SQL("pg_catalog.array_upper({}, 1)").format(array)
        )
        final: sql.Composable = end
        if filled is not None:
            final = sql.SQL("({} - {})").format(end, sql.Literal(dimensions - filled))
        if tail:
            first = sql.SQL("{} - {}").format(final, sql.Literal(tail - 1))
            wrong.append(sql.SQL("{} = ALL (({})[{}:{}])").format(nought, array, first, final))
        if filled is not None:
            wrong.append(sql.SQL("NOT {} = ALL (({})[{} + 1:])").format(nought, array, final))
        rule = _either(zero, self._of_dimension(wrong, value, dimensions, schema))
        if self.from_extension:
            return rule
        # An empty array has no axis at all; it counts as `zero`.
        return sql.SQL(
            """CASE
        WHEN pg_catalog.array_ndims({value}) > 1 THEN true
        WHEN pg_catalog.array_position({value}, NULL) IS NOT NULL THEN true
        ELSE {rule}
    END"""
        ).format(value=value, rule=rule)

    def _of_dimension(
        self,
        rules: Sequence[sql.Composable],
        value: sql.Composable,
        dimensions: int,
        schema: str | None,
    ) -> sql.Composable | None:
        """SQL that is true of a value of that dimension of which one rule is; None for no rule."""
        if not rules:
            return None
        rule = sql.SQL(" OR ").join(rules)
        return sql.SQL("CASE WHEN {} = {} THEN {} ELSE false END").format(
            self.dimension(value, schema), sql.Literal(dimensions), rule
        )

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


def _either(first: sql.Composable, second: sql.Composable | None) -> sql.Composable:
    return first if second is None else sql.SQL("({} OR {})").format(first, second)


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


def _from_vector_bytes(stored: bytes) -> NDArray[np.float32]:
    """A vector (float32, shape (dimensions,)) from what vector_send() gives.

    Two 16-bit integers, the dimension and a reserved one, then big-endian floats (pgvector's
    vector_send in src/vector.c).
    """
    return np.frombuffer(stored, dtype=">f4", offset=4).astype(np.float32)


def vector_read(stored: bytes | list[Any]) -> NDArray[np.float32]:
    """A vector from what vector_send() gives, or from an array as psycopg reads it.

    NULL elements become NaN; an array of unequal axes becomes one without elements.
    """
    if isinstance(stored, bytes):
        return _from_vector_bytes(stored)
    try:
        with np.errstate(over="ignore"):
            return np.array(stored, dtype=np.float64).astype(np.float32)
    except ValueError:  # an array of arrays of NULLs and numbers
        return np.empty(0, dtype=np.float32)

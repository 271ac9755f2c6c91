"""Computes what a vector is sent as and what it will be stored as, without asking the server.

The bytes are those of the types' own send functions, so that their md5 is the one that guards a
write. Decides nothing and asks nobody; a test holds it against the server (test_stored_form).
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

Vector: TypeAlias = "NDArray[np.float32]"

FLOAT4, FLOAT8 = 700, 701
"""Oids of the elements' types, which array_send() writes (PostgreSQL: pg_type.dat)."""


def vector_array(elements: Sequence[bytes], oid: int) -> bytes:
    """The binary form of an array of pgvector's `vector`, whose oid differs from server to server.

    `elements` are its stored forms. Laid out as by array_recv (src/backend/utils/adt/arrayfuncs.c).
    """
    parts = [struct.pack("!iiIii", 1, 0, oid, len(elements), 1)]
    for element in elements:
        parts += (struct.pack("!i", len(element)), element)
    return b"".join(parts)


def stored_forms(type_name: str, vectors: Sequence[Vector]) -> list[bytes]:
    """What the type's send function gives for each vector once it is stored.

    A number beyond halfvec's range becomes infinite here; the server refuses to store it.
    """
    return [_FORMS[type_name](vector) for vector in vectors]


def _vector(vector: Vector) -> bytes:
    # Laid out as by vector_send (pgvector, src/vector.c).
    return struct.pack("!HH", vector.size, 0) + vector.astype(">f4").tobytes()


def _halfvec(vector: Vector) -> bytes:
    # pgvector rounds to the nearest, ties to even (Float4ToHalf in src/halfutils.h), as numpy does.
    with np.errstate(over="ignore", under="ignore"):
        halves = vector.astype(np.float16)
    return struct.pack("!HH", vector.size, 0) + halves.astype(">f2").tobytes()


def _sparsevec(vector: Vector) -> bytes:
    (places,) = np.nonzero(vector)
    header = struct.pack("!iii", vector.size, places.size, 0)
    return header + places.astype(">i4").tobytes() + vector[places].astype(">f4").tobytes()


def _array(vector: Vector, oid: int, number: str) -> bytes:
    elements = np.zeros(vector.size, dtype=[("size", ">i4"), ("number", number)])
    elements["size"] = elements.dtype["number"].itemsize
    elements["number"] = vector
    return struct.pack("!iiIii", 1, 0, oid, vector.size, 1) + elements.tobytes()


_FORMS: dict[str, Callable[[Vector], bytes]] = {
    "vector": _vector,
    "halfvec": _halfvec,
    "sparsevec": _sparsevec,
    "real[]": lambda vector: _array(vector, FLOAT4, ">f4"),
    "double precision[]": lambda vector: _array(vector, FLOAT8, ">f8"),
}

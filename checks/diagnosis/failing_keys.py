"""Holds the keys of a table's failing rows as they are read, on disk where they are many."""

from __future__ import annotations

import json
import tempfile
from typing import TYPE_CHECKING

from checks.redaction import redactor

if TYPE_CHECKING:
    from collections.abc import Iterator

IN_MEMORY_BYTES = 1024 * 1024
"""Beyond this they are in a temporary file, which has no name and ends with the process."""
FIRST = 500
"""Keys that are at hand without reading them back."""


class FailingKeys:
    """Keys with tenant and failing checks, each a line of JSON. For one thread at a time."""

    def __init__(self, table: str) -> None:
        self._table = table
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115
        self.listed = 0
        """How many are held."""
        self.first: list[str] = []
        """The first of them, without what was said of them."""

    def add(self, told: str) -> None:
        """Take in key, tenant and checks of a row, as a JSON array. Raises OSError."""
        key, tenant, *checks = (
            None if text is None else redactor.clean(text) for text in json.loads(told)
        )
        line = {"table": self._table, "tenant": tenant, "key": key, "checks": checks}
        self._file.write(json.dumps(line).encode("ascii") + b"\n")
        self.listed += 1
        if len(self.first) < FIRST:
            self.first.append(key or "")

    def lines(self) -> Iterator[str]:
        """The lines in the order in which they came. Raises OSError."""
        self._file.seek(0)
        for line in self._file:
            yield line.decode("ascii")

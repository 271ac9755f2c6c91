"""Holds the keys of the rows that a selection found, on disk where they are many.

Knows neither the database nor what becomes of the rows.
"""

from __future__ import annotations

import json
import tempfile
from contextlib import contextmanager
from os import SEEK_END
from typing import TYPE_CHECKING, Generic, TypeVar, cast

from checks.errors import CannotExamineError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

IN_MEMORY_BYTES = 1024 * 1024
"""Beyond this they are in a temporary file, which has no name and ends with the process."""


Kept = TypeVar("Kept", bound="tuple[str | None, ...]")


class SelectedKeys(Generic[Kept]):
    """The keys of one selection, page by page, in the order in which they were found.

    For use by one thread at a time.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115
        self._rows = 0
        self.complete = False
        """Whether a selection has come to its end: then these are all rows that it found."""

    def __len__(self) -> int:
        return self._rows

    def replace(self, pages: Iterable[Sequence[Kept]]) -> None:
        """Forget the keys of an earlier selection, and take in these.

        Raises `CannotExamineError` where the disk has no place for them.
        """
        self.complete, self._rows = False, 0
        with _on_disk():
            self._file.seek(0)
            self._file.truncate()
        for page in pages:
            self.append(page)
        self.complete = True

    def append(self, page: Sequence[Kept]) -> None:
        """Take in more keys. Raises as `replace` does."""
        with _on_disk():
            self._file.seek(0, SEEK_END)
            self._file.write(json.dumps(page).encode("ascii") + b"\n")
            # Else a full disk would show when the keys are read, in the midst of a repair.
            self._file.flush()
        self._rows += len(page)

    def pages(self) -> Iterator[list[Kept]]:
        """The keys, in the pages in which they came."""
        offset = 0
        while True:
            self._file.seek(offset)
            line = self._file.readline()
            if not line:
                return
            offset += len(line)
            yield [cast("Kept", tuple(key)) for key in json.loads(line)]

    def close(self) -> None:
        """Remove the file."""
        self._file.close()


@contextmanager
def _on_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise CannotExamineError(
            "the keys of the failing rows cannot be kept in a temporary file"
            f" ({error.strerror}); free space, or set TMPDIR to a folder that has some"
        ) from None

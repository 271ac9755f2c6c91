"""Seals each line of a journal, so that it shows whether it and those before it are as written.

The last member of a line of JSON is the CRC-32 of all that stands before it in the file, but for
the seals. It tells damage by a disk, a copy or an editor, and lines that are missing, twice there
or in another order; it is no signature, and keeps nobody from forging a journal.
"""

from __future__ import annotations

import re
import zlib
from typing import TYPE_CHECKING, Any

from pydantic_core import from_json, to_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

END = "end"
"""The last event of a run that was not killed."""

_SEAL = re.compile(rb',"crc32_so_far":([0-9]{1,10})\}\n?\Z')
LONGEST_SEAL = len(b',"crc32_so_far":4294967295}\n')


def line_of(event: Mapping[str, Any]) -> bytes:
    """The line of an event, without its seal and its end."""
    # Several times as fast as `json`: each row has two lines.
    return to_json(event)


def sealed(line: bytes, before: int | None) -> bytes:
    """A line with its end and its seal, behind a line with the seal `before`, or behind none."""
    content = line[:-1]
    return b'%b,"crc32_so_far":%d}\n' % (content, zlib.crc32(content, before or 0))


def seal_of(line: bytes) -> int | None:
    """The seal at the end of a line, or of a piece of one; None where it has none."""
    seal = _SEAL.search(line[-LONGEST_SEAL:])
    return None if seal is None else int(seal[1])


def event_of(line: bytes) -> dict[str, Any] | None:
    """The event of a line, whether its seal holds or not; None where it holds none."""
    try:
        event = from_json(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) else None


def sealed_event_of(line: bytes, before: int | None) -> dict[str, Any] | None:
    """The event of a line that is what was written behind a line with this seal, else None.

    Earlier versions wrote no seals: before the first one, a line needs none.
    """
    if seal_of(line) is None:
        return event_of(line) if before is None else None
    content = line[: line.rindex(b",")]
    return event_of(line) if sealed(content + b"}", before) == line else None


def last_seal(path: Path) -> tuple[int | None, int]:
    """The seal of a file's last whole line, and where that line ends. Raises OSError."""
    seal, end = None, 0
    if path.stat().st_size:
        with path.open("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):
                    seal, end = seal_of(line), end + len(line)
    return seal, end

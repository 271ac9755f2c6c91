"""What discovery prints for a database, read back and used as it is."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

from checks.database.connection_url import parse_url
from checks.discovery.survey import survey
from checks.examination.examination import Examination, examine
from checks.examination.selection import Selection
from checks.row_checks.rules import ROW_CHECK_NAMES
from checks.settings.integrity_toml import load_settings

if TYPE_CHECKING:
    from pathlib import Path


def discovered(url: str) -> str:
    return survey(parse_url(url, variable="DATABASE_URL")).text


def tables(text: str) -> dict[str, dict[str, Any]]:
    """The entries that stand, by name, and by `name.column` where several have one name; a place
    that stands twice is an error.
    """
    entries = tomllib.loads(text).get("tables", [])
    bare = [entry["name"] for entry in entries]
    names = [
        name if bare.count(name) == 1 else f"{name}.{entry.get('store', entry)['embedding']}"
        for name, entry in zip(bare, entries, strict=True)
    ]
    assert len(names) == len(set(names)), names
    return dict(zip(names, entries, strict=True))


def examined(url: str, text: str, folder: Path) -> Examination:
    """The checks, with what was printed as it is."""
    path = folder / "integrity.toml"
    path.write_text(text, encoding="utf-8")
    return examine(
        parse_url(url, variable="DATABASE_URL"),
        load_settings(path, row_checks=ROW_CHECK_NAMES),
        Selection(),
    )

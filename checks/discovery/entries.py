"""Writes a [[tables]] entry as TOML. Guesses nothing itself."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Value: TypeAlias = "str | int | tuple[str, ...] | Mapping[str, str]"


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """A key of an entry with the value that was found or guessed, and why."""

    key: str
    value: Value
    reason: str
    stands: bool = True
    """False: not certain enough; then written after a `#`, for a person to fill in."""


@dataclass(kw_only=True, slots=True)
class Entry:
    """A table as the file will declare it."""

    remarks: list[str] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    sections: dict[str, list[Line]] = field(default_factory=dict)
    """The sections `store` and `source`, by name."""
    dimensions: int | None = None
    missing: str | None = None
    """Why the entry cannot be used as it is; then all of it is written after `#`."""

    def add(self, key: str, value: Value, reason: str, *, stands: bool = True) -> None:
        self.lines.append(Line(key=key, value=value, reason=reason, stands=stands))


def entry_text(entry: Entry) -> str:
    """The entry as TOML, each value with its reason in a comment."""
    commented = entry.missing is not None
    lines = [f"# {printable(remark)}" for remark in entry.remarks]
    if entry.missing is not None:
        lines.append(f"# {printable(entry.missing)}")
    lines.append("#[[tables]]" if commented else "[[tables]]")
    lines += _lines(entry.lines, commented=commented)
    for name, section in entry.sections.items():
        proposed = commented or not any(line.stands for line in section)
        lines += ["", f"#[tables.{name}]" if proposed else f"[tables.{name}]"]
        lines += _lines(section, commented=commented)
    return "\n".join(lines) + "\n"


def _lines(lines: Sequence[Line], *, commented: bool) -> Iterator[str]:
    for line in lines:
        mark = "#" if commented or not line.stands else ""
        if not mark and isinstance(line.value, str) and _is_block(line.value):
            yield f"# {line.key}: {printable(line.reason)}"
            yield f"{line.key} = '''\n{line.value}'''"
            continue
        yield f"{mark}{line.key} = {toml(line.value)}  # {printable(line.reason)}"


def toml(value: Value) -> str:
    """A value as TOML writes it, on one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {toml(v)}" for k, v in value.items()) + " }"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(toml, value)) + "]"
    if '"' in value and "'" not in value and value.isprintable():
        return f"'{value}'"
    # Escapes what a terminal could obey, and what TOML does not allow.
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return '"' + _without_controls(escaped) + '"'


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else toml(name)


def _is_block(value: str) -> bool:
    """Whether a value of several lines can be written as it is between triple quotes."""
    plain = value.replace("\n", "").isprintable() and "'''" not in value
    return "\n" in value and plain and not value.endswith("'")


def printable(text: str) -> str:
    """Text for a comment: one line, and nothing that a terminal would obey."""
    return _without_controls(text.replace("\n", "\\n"))


def _without_controls(text: str) -> str:
    return re.sub(
        r"[^\x20-\x7e]",
        lambda found: found[0] if found[0].isprintable() else f"\\U{ord(found[0]):08x}",
        text,
    )

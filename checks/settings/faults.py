"""Words the faults of a settings file for a person; decides no rule.

Never shows a base_url, or a value under [database] or [keys]: people paste secrets there.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any, get_args, get_origin

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

LONGEST_SHOWN = 60
_SECRET_SECTIONS = frozenset({"database", "keys"})
_ANY = "*"
_EXPECTED = {
    "string_type": "text in double quotes",
    "int_type": "a whole number",
    "float_type": "a number",
    "decimal_type": "a number",
    "is_instance_of": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "date_type": "a date such as 2026-12-31, without quotes",
    "tuple_type": 'a list such as ["a", "b"]',
    "dict_type": 'a section or { name = "value" }',
    "model_type": "a section",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class _SectionKeys:
    """Where a section stands in the file, how its heading is written, and the keys it knows."""

    path: tuple[str, ...]
    heading: str
    keys: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """Something wrong at a place of the file, and the next step, in words."""

    location: tuple[int | str, ...]
    words: str


def faults_in(error: ValidationError, *, root: type[BaseModel]) -> list[Fault]:
    """What pydantic refused, in words; `root` is the model that refused it."""
    sections = {section.path: section for section in _sections(root, (), "the top of the file")}
    found = []
    for fault in error.errors(include_url=False):
        if fault["type"] == "too_short" and fault["input"]:
            continue  # its entries are wrong, and said to be
        location = tuple(part for part in fault["loc"] if part != "[key]")
        found.append(Fault(location=location, words=_words(fault, location, sections)))
    return found


def fault_lines(
    faults: Sequence[Fault], *, content: Mapping[str, Any], file_name: str
) -> tuple[str, ...]:
    """Every fault of a settings file once, one line each: file, key path, what is wrong.

    `content` is the file as TOML reads it.
    """
    lines = [
        f"{file_name}: {_key_path(fault.location, content)}: {fault.words}" for fault in faults
    ]
    return tuple(dict.fromkeys(lines))


def shown(value: object) -> str:
    """A value for an error message: short, control characters escaped; containers stay closed."""
    match value:
        case bool():
            return str(value).lower()
        case float() if value.is_integer():
            return str(int(value))
        case int() | float() | Decimal() | date():
            return _shortened(str(value))
        case str():
            return repr(_shortened(value))
        case Mapping() | BaseModel():
            return "a section"
        case list() | tuple():
            return "a list" if value else "an empty list"
    return type(value).__name__


def suggestion(name: str, known: Iterable[str]) -> str | None:
    """A half-sentence with the nearest known name, or None where none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f'did you mean "{near[0]}"?' if near else None


def _words(
    fault: ErrorDetails,
    location: tuple[int | str, ...],
    sections: Mapping[tuple[str, ...], _SectionKeys],
) -> str:
    kind, context = fault["type"], fault.get("ctx", {})
    path = _section_path(location)
    found = "" if _may_be_secret(location) else f", found {shown(fault['input'])}"
    if kind == "value_error":
        return str(context["error"])
    if kind == "extra_forbidden":
        return f"unknown key; {_unknown_key_advice(path, sections)}"
    if kind == "missing":
        heading = sections[path[:-1]].heading
        return f"missing key; {heading} needs it, integrity.example.toml shows how it is written"
    if kind == "literal_error":
        expected = context["expected"].replace("'", '"')
        near = suggestion(str(fault["input"]), re.findall(r'"([^"]+)"', expected))
        return f"expected {expected}{found}" + (f"; {near}" if near and found else "")
    if kind in ("greater_than_equal", "greater_than", "less_than_equal", "less_than"):
        bound = shown(next(iter(context.values())))
        words = kind.replace("_equal", " or equal to").replace("_", " ")
        words = {"greater than or equal to": "at least", "less than or equal to": "at most"}.get(
            words, words
        )
        return f"expected {words} {bound}{found}"
    if kind == "too_short":
        return "expected at least one entry, found none; leave the key out where there is none"
    if kind == "model_type" and path[-1:] == (_ANY,):
        return f"expected settings of a check such as {{ enabled = false }}{found}"
    if kind in ("tuple_type", "model_type") and path in sections:
        return f"expected {sections[path].heading}{found}; check its brackets"
    expected = _EXPECTED.get(kind) or fault["msg"].removeprefix("Input should be ")
    return f"expected {expected}{found}"


def _unknown_key_advice(
    path: tuple[str, ...], sections: Mapping[tuple[str, ...], _SectionKeys]
) -> str:
    name = path[-1]
    here = sections[path[:-1]]
    near = suggestion(name, here.keys)
    if near:
        return near
    owners = [section.heading for section in sections.values() if name in section.keys]
    if owners:
        return f"it belongs to {' or '.join(owners)}, not to {here.heading}"
    return f"{here.heading} knows {', '.join(here.keys)}"


def _section_path(location: tuple[int | str, ...]) -> tuple[str, ...]:
    names = [part for part in location if isinstance(part, str)]
    # The keys of [tables.checks] are names of checks: one section stands for all of them.
    if names[:2] == ["tables", "checks"] and len(names) > 2:
        names[2] = _ANY
    return tuple(names)


def _sections(
    model: type[BaseModel], path: tuple[str, ...], heading: str
) -> Iterator[_SectionKeys]:
    yield _SectionKeys(path=path, heading=heading, keys=tuple(model.model_fields))
    for name, field in model.model_fields.items():
        nested = _model_in(field.annotation)
        if nested is None:
            continue
        below = (*path, name)
        of_a_mapping = get_origin(field.annotation) is Mapping
        if of_a_mapping:
            below = (*below, _ANY)
        dotted = ".".join(below).replace(_ANY, "CHECK")
        is_list = get_origin(field.annotation) is tuple
        yield from _sections(nested, below, f"[[{dotted}]]" if is_list else f"[{dotted}]")


def _model_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _model_in(part))), None)


def _key_path(location: tuple[int | str, ...], content: object) -> str:
    """`tables[public.documents].checks.completeness.min`; an entry without a name is `#2`, and of
    those that share one each has its number too.
    """
    path = ""
    for part in location:
        if isinstance(part, int):
            listed = content if isinstance(content, list) else []
            names = [one.get("name") if isinstance(one, Mapping) else None for one in listed]
            content = listed[part] if listed else None
            name = names[part] if names else None
            named = isinstance(name, str) and name.strip()
            number = f"#{part + 1}"
            several = f" {number}" if path == "tables" and names.count(name) > 1 else ""
            path += f"[{_printable(str(name)) + several if named else number}]"
        else:
            content = content.get(part) if isinstance(content, Mapping) else None
            path += ("." if path else "") + _printable(part)
    return path or "file"


def _may_be_secret(location: tuple[int | str, ...]) -> bool:
    return location[:1] != () and (location[0] in _SECRET_SECTIONS or location[-1] == "base_url")


def _printable(text: str) -> str:
    short = _shortened(text)
    return short if short.isprintable() else repr(short)


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else text[:LONGEST_SHOWN] + "..."

"""Folds copies of one layout into a pattern: a schema per tenant, or a table per data set.

Decides by names and columns; asks nothing. Takes a pattern only where it means no other table.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from itertools import takewhile
from typing import TYPE_CHECKING, Literal

from checks.discovery.layouts.known import known_layout
from checks.settings.names import TableName

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from checks.database.catalog import RelationName
    from checks.discovery.layouts.candidates import Candidate

NamePart = Literal["schema", "table"]

FEWEST = 3
"""Tables of one layout, with unlike names in one schema, that are taken for copies."""

_IN_A_PATTERN = re.compile(r"[a-z0-9_$\x80-\U0010ffff]*")
"""What an unquoted part of a name may hold without being folded to something else."""

_NUMBERED = re.compile(r"[0-9]+|[0-9a-f_-]{8,}", re.IGNORECASE)
"""Numbers and UUIDs, which no one gives a table by hand."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """One or several tables that one entry of the settings will stand for."""

    members: tuple[Candidate, ...]
    name: TableName
    tenant_from: NamePart | None = None

    @property
    def example(self) -> Candidate:
        """The largest, which stands for all of them."""
        return max(self.members, key=lambda candidate: candidate.estimated_rows)


def fold(
    candidates: Sequence[Candidate],
    names: Sequence[RelationName],
    *,
    unlisted: Collection[int] = (),
) -> tuple[Group, ...]:
    """Every candidate in exactly one group; one without copies is a group of its own.

    `unlisted` are the oids of candidates that get no entry of their own name, so that no pattern
    but their own may mean them.
    """
    by_name: dict[object, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        by_name[_layout_of(candidate), candidate.relation.name].append(candidate)
    groups, rest = _folded(list(by_name.values()), names, "schema", _is_copy, unlisted)
    by_schema: dict[object, list[Candidate]] = defaultdict(list)
    for candidate in rest:
        by_schema[_layout_of(candidate), candidate.relation.schema].append(candidate)
    tables, rest = _folded(list(by_schema.values()), names, "table", _is_data_set, unlisted)
    single = [
        Group(
            members=(candidate,),
            name=TableName(schema=candidate.relation.schema, name=candidate.relation.name),
        )
        for candidate in rest
    ]
    return tuple(sorted((*groups, *tables, *single), key=lambda group: str(group.name)))


def _layout_of(candidate: Candidate) -> object:
    """What copies have in common: columns with types, key, and foreign keys."""
    relation = candidate.relation
    columns = tuple((column.name, column.full_type) for column in relation.columns.values())
    referred = tuple((key.columns, key.parent.name) for key in candidate.foreign_keys)
    return relation.kind, frozenset(columns), relation.primary_key, referred


def _folded(
    alike: Sequence[Sequence[Candidate]],
    names: Sequence[RelationName],
    part: NamePart,
    acceptable: Callable[[Sequence[Candidate], list[str]], bool],
    unlisted: Collection[int],
) -> tuple[list[Group], list[Candidate]]:
    """The groups that a pattern fits, largest first, and the candidates that are left."""
    free = {candidate.relation.oid for members in alike for candidate in members}
    groups: list[Group] = []
    rest: list[Candidate] = []
    alone: set[int] = set()
    for members in sorted(alike, key=len, reverse=True):
        own = {candidate.relation.oid for candidate in members}
        name = _pattern(members, part) if len(members) > 1 and not own & alone else None
        matched = {n.oid for n in names if name is not None and name.match(n.schema, n.name)}
        stars = [_star(name, candidate, part) for candidate in members] if name else []
        meant = own <= matched <= free and not (matched - own).intersection(unlisted)
        if name is None or not meant or not acceptable(members, stars):
            rest.extend(members)
            continue
        # Other tables that the pattern means are listed by their exact names, which win over it.
        alone |= matched - own
        free -= own
        groups.append(Group(members=tuple(members), name=name, tenant_from=part))
    return groups, rest


def _pattern(members: Sequence[Candidate], part: NamePart) -> TableName | None:
    """A name with one `*` that all members fit, or None."""
    relation = members[0].relation
    varying = [getattr(c.relation, "schema" if part == "schema" else "name") for c in members]
    before = _common_start(varying)
    after = _common_start([name[::-1] for name in varying])[::-1]
    if not all(name[len(before) :].isdigit() for name in varying):
        # Cut at a separator: tenant_acme and tenant_ajax have `tenant_` in common.
        before = re.sub(r"[^_]*\Z", "", before)
    after = re.sub(r"\A[^_]*", "", after)
    if not (_IN_A_PATTERN.fullmatch(before) and _IN_A_PATTERN.fullmatch(after)):
        return None
    if part == "table" and not before and not after:
        return None
    starred = f"{before}*{after}"
    if part == "schema":
        return TableName(schema=starred, name=relation.name, schema_is_pattern=True)
    return TableName(schema=relation.schema, name=starred, name_is_pattern=True)


def _common_start(words: Sequence[str]) -> str:
    same = takewhile(lambda letters: len(set(letters)) == 1, zip(*words, strict=False))
    return "".join(letters[0] for letters in same)


def _star(name: TableName, candidate: Candidate, part: NamePart) -> str:
    match = name.match(candidate.relation.schema, candidate.relation.name)
    star = None if match is None else match.schema_part if part == "schema" else match.table_part
    return star or ""


def _is_copy(members: Sequence[Candidate], stars: list[str]) -> bool:
    """Whether tables of one name are copies: not where one is in `public`, no tenant's schema."""
    return all(stars) and all(candidate.relation.schema != "public" for candidate in members)


def _is_data_set(members: Sequence[Candidate], stars: list[str]) -> bool:
    """Whether tables of one schema are copies rather than alike by chance."""
    if not all(stars):
        return False
    layout = known_layout(members[0].relation)
    named_by_framework = layout is not None and layout.table != ".+"
    return named_by_framework or len(members) >= FEWEST or all(map(_NUMBERED.fullmatch, stars))

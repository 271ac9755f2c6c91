"""Words what the failing rows of a table have in common, each piece by itself.

Evidence, never a cause: each piece says what was counted, and which way it points where somebody
asks whether it was a migration.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Literal

from checks.diagnosis import facets as by
from checks.diagnosis.window import window_of
from checks.wording import number, plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checks.diagnosis.facets import Count, Facets
    from checks.diagnosis.window import Window
    from checks.targets.target import Target

Topic = Literal[
    "when", "edited", "outside", "tenant", "group", "model", "dimension", "text", "written", "kind"
]
Direction = Literal["for", "against"]
MOST = 0.5
"""The share of the failing rows from which a value is worth naming."""
LIFT = 1.5
"""How many times its share of all rows a value must hold of the failing ones."""
CONTRAST = 5.0
"""How many times likelier to fail rows in the window must be than the others."""
NARROW, WIDE = 0.25, 0.8
"""The share of the time in which rows were created that a window takes at most."""
TOGETHER = 5
"""Rows written by one transaction that are no coincidence."""
KINDS = {
    "completeness": "have no embedding",
    "dimensionality": "have a vector of another dimension",
    "degenerate": "have a vector without meaning, such as only zeros",
    "freshness": "are stale: their text changed after it was embedded",
    "provenance": "carry another model's name",
    "uniqueness": "share a vector with a row of another text",
    "orphans": "have lost their source row",
}
"""How the failing rows of each check differ: NULL, wrong dimension, stale and so on."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Evidence:
    """One thing that was counted, in a sentence without its full stop."""

    topic: Topic
    says: str
    migration: Direction | None = None
    """Which way it points where the question is whether one statement did it to stored rows."""


def evidence_of(
    target: Target, found: Facets, window: Window | None, outside: Facets | None, *, longest: int
) -> Iterator[Evidence]:
    """What is worth saying, what tells most first. `outside` are failing rows out of the window."""
    yield from _when(target, found, window)
    if (
        outside is not None
        and outside.failing
        and window is not None
        and concentrated(found, window)
    ):
        yield Evidence(topic="outside", says=_outside(target, outside, longest))
    yield from _kinds(found)
    yield from _stale(found)
    yield from _tenants(found)
    for column in found.groups:
        yield from _group(found, column)
    yield from _models(target, found)
    yield from _dimensions(target, found)
    yield from _long_texts(found, longest)
    yield from _written(found)


def concentrated(found: Facets, window: Window) -> bool:
    """Whether the window tells failing rows from others: its rows fail far oftener, and it is
    narrow, or most of them fail and it is not nearly all the time there is.
    """
    dated = [count for count in found.of.get(by.HOUR, ()) if count.value is not None]
    places = [int(count.value or 0) for count in dated]
    part = window.length.total_seconds() / 3600 / (max(places) - min(places) + 1)
    rows = sum(count.rows for count in dated) - window.rows
    failing = sum(count.failing for count in dated) - window.failing
    if not rows or window.failing * rows < CONTRAST * failing * window.rows:
        return False
    return part <= NARROW or (part <= WIDE and window.failing >= MOST * window.rows)


def _when(target: Target, found: Facets, window: Window | None) -> Iterator[Evidence]:
    if window is None:
        if target.declared.created_at is None:
            yield Evidence(
                topic="when",
                says="when the failing rows were created is not known: created_at is not declared",
            )
        return
    hours = found.of[by.HOUR]
    dated = sum(hour.failing for hour in hours if hour.value is not None)
    rows = sum(hour.rows for hour in hours if hour.value is not None) - window.rows
    span = span_words(window.first, window.last)
    if not concentrated(found, window):
        yield Evidence(
            topic="when",
            says=(
                f"the {_were(found)} created {span},"
                " about as all rows were: no stretch of time stands out"
            ),
            migration="for" if found.failing >= TOGETHER else None,
        )
        return
    says = (
        f"{number(window.failing)} of {_were(found)}"
        f" created {span}: {share(window.failing, window.rows)} of the rows created then fail,"
        f" and {share(dated - window.failing, rows)} of all others"
    )
    some = window.failing < window.rows
    yield Evidence(topic="when", says=says, migration="against" if some else None)


def _were(found: Facets) -> str:
    return plural(found.failing, "failing row was", "failing rows were")


def _outside(target: Target, outside: Facets, longest: int) -> str:
    """What the failing rows out of the window have in common."""
    whole = outside.failing
    said = f"the other {plural(whole, 'failing row')}" if whole > 1 else "the other failing row"
    common = []
    if (count := _of_most(outside, by.LONG)) is not None:
        common.append(f"a text over {number(longest)} characters")
    if (count := _of_most(outside, by.CHECKS)) is not None:
        common.append(f"failing {checks_words(count.value)}")
    if (count := _of_most(outside, by.TENANT)) is not None:
        common.append(f"tenant {quoted(count.value)}")
    common += [
        f"{column} {quoted(count.value)}"
        for column in outside.groups
        if (count := _of_most(outside, f"{by.GROUP}{column}")) is not None
    ]
    if (count := _of_most(outside, by.MODEL)) is not None and count.value != target.model:
        common.append(f"model {quoted(count.value)}")
    if not common:
        return f"{said} have nothing in common that was compared"
    return f"{said} {'have' if whole > 1 else 'has'} mostly in common: {'; '.join(common)}"


def _of_most(found: Facets, facet: str) -> Count | None:
    """The value that eight of ten failing rows have."""
    worst = found.worst(facet)
    most = worst is not None and worst.value is not None and worst.failing >= 0.8 * found.failing
    return worst if most else None


def _kinds(found: Facets) -> Iterator[Evidence]:
    counts: dict[str, int] = {}
    several = 0
    for count in found.hit(by.CHECKS):
        names = json.loads(count.value or "[]")
        several += count.failing if len(names) > 1 else 0
        for name in names:
            counts[name] = counts.get(name, 0) + count.failing
    said = [
        f"{number(failing)} {KINDS.get(name, f'fail {name}')}"
        for name, failing in sorted(counts.items(), key=lambda item: -item[1])
    ]
    if several:
        said.append(f"{number(several)} of these fail several checks")
    if said:
        yield Evidence(topic="kind", says="; ".join(said))


def _stale(found: Facets) -> Iterator[Evidence]:
    """When the texts of stale rows changed: a row of any age becomes stale by an edit."""
    edits = [
        replace(count, first=hour, last=hour)
        for count in found.hit(by.EDITED)
        if count.value is not None
        and (hour := datetime.fromtimestamp(int(count.value) * 3600, UTC))
    ]
    window = window_of(edits)
    if window is not None:
        stale = sum(count.failing for count in edits)
        span = span_words(window.first, window.last + timedelta(hours=1))
        rows = plural(stale, "stale row")
        says = f"{number(window.failing)} of {rows} edited last {span}, by updated_at"
        yield Evidence(topic="edited", says=says)


def _tenants(found: Facets) -> Iterator[Evidence]:
    tenants, hit = found.distinct.get(by.TENANT, 0), found.hit(by.TENANT)
    if tenants < 2 or not hit:
        return
    all_of_it = "all" if len(hit) == tenants else f"{number(len(hit))} of"
    says = f"{all_of_it} {number(tenants)} tenants have failing rows"
    worst = hit[0]
    if len(hit) == 1:
        says = f"every failing row is of one tenant of {number(tenants)}, {quoted(worst.value)}"
    elif worst.failing >= MOST * found.failing:
        says += f"; {_holds(found, worst, quoted(worst.value))}"
    else:
        says += f"; none holds most of them ({quoted(worst.value)} {number(worst.failing)})"
    yield Evidence(topic="tenant", says=says, migration="for" if len(hit) == tenants else "against")


def _group(found: Facets, column: str) -> Iterator[Evidence]:
    facet = f"{by.GROUP}{column}"
    raised = [
        count
        for count in found.hit(facet)
        if count.failing >= MOST * found.failing and found.lift(count) >= LIFT
    ]
    for count in raised[:1]:
        yield Evidence(
            topic="group", says=_holds(found, count, f"the value {quoted(count.value)} of {column}")
        )
    if not raised and found.hit(facet):
        yield Evidence(topic="group", says=f"no value of {column} stands out among failing rows")


def _holds(found: Facets, count: Count, name: str) -> str:
    return (
        f"{name} holds {number(count.failing)} of {plural(found.failing, 'failing row')}"
        f" ({share(count.failing, found.failing)}) and {share(count.rows, found.rows)} of all rows:"
        f" {found.lift(count):.1f} times its share"
    )


def _models(target: Target, found: Facets) -> Iterator[Evidence]:
    others = [c for c in found.hit(by.MODEL) if c.value and c.value != target.model]
    if not others:
        return
    listed = ", ".join(f"{quoted(c.value)} ({number(c.failing)})" for c in others[:3])
    more = f" and {number(len(others) - 3)} more" if len(others) > 3 else ""
    healthy = sum(c.rows - c.failing for c in found.of[by.MODEL] if c.value == target.model)
    yield Evidence(
        topic="model",
        says=(
            f"failing rows carry the model {listed}{more}; {quoted(target.model)} is declared,"
            f" which {plural(healthy, 'healthy row carries', 'healthy rows carry')}"
        ),
        migration="for" if len(others) == 1 else None,
    )


def _dimensions(target: Target, found: Facets) -> Iterator[Evidence]:
    others = [c for c in found.hit(by.DIMENSION) if c.value and c.value != str(target.dimensions)]
    if others:
        listed = ", ".join(
            f"{plural(c.failing, 'row')} of {number(int(c.value or 0))}" for c in others[:3]
        )
        yield Evidence(
            topic="dimension",
            says=(
                f"the vectors of failing rows have other dimensions than {target.dimensions}, as"
                f" declared: {listed}"
            ),
        )


def _long_texts(found: Facets, longest: int) -> Iterator[Evidence]:
    long = next((c for c in found.hit(by.LONG) if c.value is not None), None)
    if long is not None:
        yield Evidence(
            topic="text",
            says=(
                f"{plural(long.failing, 'failing row has a text', 'failing rows have texts')} over"
                f" {number(longest)} characters, about as many as the provider takes at once"
            ),
        )


def _written(found: Facets) -> Iterator[Evidence]:
    worst = found.worst(by.WRITTEN_BY)
    if worst is None or found.failing < TOGETHER:
        return
    transactions = sum(1 for _ in found.hit(by.WRITTEN_BY))
    if worst.failing >= max(TOGETHER, MOST * found.failing):
        if found.lift(worst) < LIFT:
            return  # The whole table was loaded at once, as by a restore: it tells nothing.
        healthy = worst.rows - worst.failing
        beside = plural(healthy, "healthy row") + " as well" if healthy else "no healthy row"
        yield Evidence(
            topic="written",
            says=(
                f"{number(worst.failing)} of {_were(found)} last written by one transaction"
                f" ({worst.value}), which wrote {beside}: as a"
                " migration, an import or another bulk statement does"
            ),
            migration="for",
        )
    elif worst.failing < TOGETHER:
        least = "at least " if transactions < found.distinct.get(by.WRITTEN_BY, 0) else ""
        yield Evidence(
            topic="written",
            says=(
                f"the failing rows were last written by {least}{number(transactions)} different"
                f" transactions, none of which wrote more than {number(worst.failing)} of them: as"
                " an application does, row by row"
            ),
            migration="against",
        )


def checks_words(value: str | None) -> str:
    return ", ".join(json.loads(value or "[]"))


def quoted(value: str | None) -> str:
    """A value from outside, in quotation marks and on one line; long ones are cut."""
    if value is None:
        return "NULL"
    shown = value if len(value) <= 80 else f"{value[:80]}…"
    return json.dumps(shown, ensure_ascii=False)


def share(part: int, whole: int) -> str:
    """A percentage that rounds nothing to 0 % and no part to 100 %."""
    if whole <= 0:
        return "none"
    if 0 < part * 1000 < whole:
        return "under 0.1%"
    if part < whole and part * 1000 > whole * 999:
        return "over 99.9%"
    return f"{100 * part / whole:.1f}".removesuffix(".0") + "%"


def span_words(first: datetime, last: datetime) -> str:
    """From a minute to another, in UTC."""
    begin, end = (f"{time.astimezone(UTC):%Y-%m-%d %H:%M}" for time in (first, last))
    return f"at {begin} UTC" if begin == end else f"from {begin} to {end} UTC"

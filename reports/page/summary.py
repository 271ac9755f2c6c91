"""Tells the incident in whole sentences for a reader who is no engineer.

Says only what the counts prove: no guess about causes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

from markupsafe import Markup

from checks.wording import number, plural
from reports.page import wording
from reports.values.incident import Incident, Result

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from reports.values.incident import RepairSummary
    from reports.values.tables import RowCount

VERDICTS = {
    Result.WHOLE: "Everything holds",
    Result.PARTLY: "Partly repaired, something is left",
    Result.STOPPED: "The repair stopped early",
    Result.NOTHING_REPAIRED: "Nothing was repaired",
    Result.ROLLED_BACK: "An earlier run was rolled back",
    Result.INTERRUPTED: "The run was interrupted",
    Result.NOT_EXAMINED: "Nothing could be examined",
    Result.OPEN: "Some check does not hold",
}
MEANINGS = {
    "completeness": "had no embedding: semantic search could not find them",
    "dimensionality": "had an embedding of another dimension than declared",
    "degenerate": "had an embedding that holds no meaning, such as only zeros",
    "freshness": "had an embedding made from an earlier version of the text",
    "provenance": "had an embedding that was made with another model than declared",
    "uniqueness": "had the same embedding as a row with a different text",
    "drift": "had an embedding, of those sampled, that the model does not give for the text",
    "orphans": "belonged to a source row that is gone",
}
OUTCOMES = {
    "superseded": "changed by someone else meanwhile and left alone",
    "quarantined": "set aside: the provider will never take such a text",
    "failed": "not embedded, but may be in a later run",
    "skipped": "skipped: a cap, a lock, or a repair that stopped early",
}
ROLLBACK_OUTCOMES = {
    "superseded": "changed since, or gone, and left alone",
    "failed": "not put back, but may be in a later rollback",
    "skipped": "not written: as it was already, locked, or not reached",
}
NAMED_TENANTS = 3
NAMED_TABLES = 3
SHORT_NAME = 60


def verdict(incident: Incident) -> str:
    """How the run ended, in a few words."""
    if incident.mode == "rollback" and incident.result is Result.STOPPED:
        return "The rollback stopped early"
    return VERDICTS[incident.result]


def sentences(incident: Incident) -> dict[str, Markup]:
    """The answers to what a reader asks first, by question, in the order of asking."""
    answers = {
        "What happened": _what_happened(incident),
        "Since when": _since_when(incident),
        "Who was hit": _who_was_hit(incident),
        "What was done": _what_was_done(incident),
        "What is left": _what_is_left(incident),
    }
    return {
        question: Markup(wording.first_upper(Markup(" ").join(parts)))  # noqa: S704 - is markup
        for question, answer in answers.items()
        if (parts := list(answer))
    }


def _what_happened(incident: Incident) -> Iterator[Markup]:
    if len(incident.unexamined) == len(incident.tables):
        yield Markup("No table was examined, so nothing is known about the embeddings.")
        return
    if not incident.failing_before.rows:
        if incident.findings_before:
            yield Markup("No row failed a check, but {} about a whole table did not hold.").format(
                plural(len(incident.findings_before), "check")
            )
        else:
            yield Markup("Every examined row passed every check.")
        return
    yield Markup("{} of {} ({}) failed at least one check, in {} of {}.").format(
        wording.count(incident.failing_before),
        ("about " if incident.estimated else "") + plural(incident.rows, "row"),
        wording.share(incident.failing_before.rows, incident.rows),
        number(len(incident.affected_tables)),
        plural(len(incident.tables), "table"),
    )
    for check, failing in sorted(incident.by_check.items(), key=lambda item: -item[1]):
        rows = plural(failing, "row")
        if meaning := MEANINGS.get(check):
            yield Markup("{} {}.").format(rows, meaning)
        else:
            yield Markup("{} failed the check {}.").format(rows, wording.name(check, SHORT_NAME))


def _since_when(incident: Incident) -> Iterator[Markup]:
    affected = incident.affected_tables
    # One range over several tables could be the time of none of their incidents.
    for table in affected[:NAMED_TABLES]:
        times = [
            time
            for segment in table.affected
            for time in (segment.first, segment.last)
            if time is not None
        ]
        if times:
            yield Markup("The affected rows{} were created {}.").format(
                ""
                if len(affected) == 1
                else Markup(" of {}").format(wording.name(table.name, SHORT_NAME)),
                _when(min(times, key=_comparable), max(times, key=_comparable)),
            )


def _when(first: datetime, last: datetime) -> str:
    if first == last:
        return f"at {wording.moment(first)}"
    return f"from {wording.span(first, last)}"


def _comparable(time: datetime) -> datetime:
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


def _who_was_hit(incident: Incident) -> Iterator[Markup]:
    affected = incident.affected_tenants
    if not affected:
        return
    yield Markup("{} of {} had affected rows: {}.").format(
        number(len(affected)),
        plural(incident.tenants, "tenant"),
        Markup(", ").join(_named(affected)),
    )
    if healthy := incident.tenants - len(affected):
        yield Markup("{} had none.").format(plural(healthy, "other tenant"))


def _named(affected: Mapping[str | None, RowCount]) -> Iterator[Markup]:
    for tenant, rows in islice(affected.items(), NAMED_TENANTS):
        yield Markup("{} ({})").format(wording.tenant(tenant, SHORT_NAME), wording.count(rows))
    if (further := len(affected) - NAMED_TENANTS) > 0:
        yield Markup("and {} more").format(number(further))


def _what_was_done(incident: Incident) -> Iterator[Markup]:
    repair = incident.repair
    if repair is None:
        made = {"check": "repair", "dry run": "repair"}.get(incident.mode, incident.mode)
        yield Markup("No {} was made.").format(made)
        return
    if incident.mode == "rollback":
        yield from _what_was_put_back(incident, repair)
        return
    totals = repair.totals
    yield Markup("{} embedded again with {} to the provider ({}; {}) in {}.").format(
        plural(totals.fixed, "row was", "rows were"),
        plural(repair.requests, "request"),
        wording.tokens_taken(repair.usage),
        wording.cost(repair.dollars),
        wording.duration(repair.seconds),
    )
    for outcome, ending in OUTCOMES.items():
        if rows := getattr(totals, outcome):
            yield Markup("{} {}.").format(plural(rows, "row was", "rows were"), ending)
    if repair.not_begun:
        yield Markup("{} not begun.").format(plural(repair.not_begun, "row was", "rows were"))
    if any(probe.refused for probe in repair.probes):
        yield Markup(
            "The probe refused at least one table or tenant: healthy rows, embedded again, did not "
            "match what is stored."
        )
    if any(table.re_examined for table in incident.tables):
        yield Markup("Afterwards the same checks were run again.")


def _what_was_put_back(incident: Incident, repair: RepairSummary) -> Iterator[Markup]:
    totals = repair.totals
    yield Markup("{} put back as before run {}, in {}.").format(
        plural(totals.restored, "row was", "rows were"),
        incident.rolls_back or "",
        wording.duration(repair.seconds),
    )
    for outcome, ending in ROLLBACK_OUTCOMES.items():
        if rows := getattr(totals, outcome):
            yield Markup("{} {}.").format(plural(rows, "row was", "rows were"), ending)
    if any(table.re_examined for table in incident.tables):
        yield Markup("Afterwards the checks were run.")


def _what_is_left(incident: Incident) -> Iterator[Markup]:
    if incident.result is Result.INTERRUPTED:
        yield Markup("The run was interrupted, so the counts may be behind the database.")
    now = incident.failing_now
    if incident.unproven:
        yield Markup(
            "Nothing was examined after the repair, so what still fails is not proven: "
            "run the checks again."
        )
    elif now.rows:
        yield Markup("{} still {} a check.").format(
            _count_of_rows(now), "fails" if now.rows == 1 else "fail"
        )
    elif incident.left:
        yield Markup("{} left, with what to do next.").format(
            plural(len(incident.left), "point is", "points are")
        )
    elif incident.result is Result.WHOLE:
        yield Markup("Nothing: every check holds.")
    if incident.unexamined:
        yield Markup("{} not be examined; nothing is known about {}.").format(
            plural(len(incident.unexamined), "table could", "tables could"),
            "it" if len(incident.unexamined) == 1 else "them",
        )


def _count_of_rows(count: RowCount) -> str:
    return f"{wording.count(count)} {'row' if count.rows == 1 else 'rows'}"

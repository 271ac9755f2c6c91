"""Drafts what to do so that it does not happen again, from what was found.

Drafts only: owner and date are for people to fill in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.values.incident import Result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from reports.values.incident import Incident

BY_CHECK = {
    "completeness": (
        "Make a failed embedding visible: retry it and count what is given up; a job that is"
        " acknowledged and dropped leaves a NULL that nobody sees",
        "Apply the migration that 'embedding-integrity prevent' prints, so that rows without an"
        " embedding are seen at once",
    ),
    "dimensionality": (
        "Declare the column with its dimension, as in vector(1536), so that the database refuses"
        " any other",
    ),
    "degenerate": (
        "Refuse answers of the provider that are zero, not finite or padded before they are"
        " written",
    ),
    "freshness": (
        "Embed again whenever the text changes, in the same transaction or by a trigger;"
        " 'embedding-integrity prevent' prints one that marks stale rows",
    ),
    "provenance": (
        "Change the model by a migration of its own: new column or store, backfill, check, switch",
    ),
    "uniqueness": (
        "Find out why different texts got the same vector: a default text, a cut that is too"
        " short, or answers taken in the wrong order",
    ),
    "orphans": ("Add a foreign key with ON DELETE CASCADE from the chunks to their source",),
    "index": ("Create indexes by migration, CONCURRENTLY, and check that they are valid after it",),
    "schema": ("Hold the declared tables against the schema in CI, before a migration is merged",),
    "drift": ("Pin the model and its parameters; announce changes of either before they ship",),
    "retrieval": ("Measure recall after every change of the index or of its parameters",),
}
ALWAYS = (
    "Run the checks every night and have someone woken by a red run",
    "Tell the tenants that were hit what they could not find, and since when",
)
PROMPTS = (
    "What went well: what noticed it, what limited it?",
    "What went badly: what should have noticed it before?",
    "Where were we lucky?",
    "Which change came just before the onset: a deploy, a migration, a key, a limit of the"
    " provider?",
    "Who was told, when, and by whom?",
)


def actions(incident: Incident) -> tuple[str, ...]:
    """The drafted actions, those for what was found first."""
    return tuple(dict.fromkeys(_drafted(incident)))


def _drafted(incident: Incident) -> Iterator[str]:
    if incident.left and incident.result is not Result.WHOLE:
        yield "Finish what is left of this incident: see the section on what was done"
    hit = {finding.check for finding in incident.findings_before}
    for check, drafts in BY_CHECK.items():
        if check in hit:
            yield from drafts
    problems = incident.repair.problems if incident.repair is not None else ()
    if any(problem.outcome == "quarantined" for problem in problems):
        yield (
            "Decide about texts that the provider never takes: shorten them where they are made, or"
            ' set too_long = "truncate"'
        )
    trend = incident.trend
    if trend is None or not trend.runs[:-1]:
        yield "Keep the history of the runs, so that the next one knows when it was last green"
    if hit:
        yield from ALWAYS

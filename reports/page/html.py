"""Renders the incident as one self-contained HTML page.

It runs no script and loads nothing; it caps what it shows, since the JSON holds all.
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from checks.redaction import redactor
from checks.wording import number, plural, visible
from reports.page import actions, charts, sections, summary, verdict, wording
from reports.page.happened import happened
from reports.page.markdown import markdown_environment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from reports.values.diagnosed import DiagnosedTable
    from reports.values.incident import Incident

CONTENTS = {
    "verdict": "Verdict",
    "impact": "Impact",
    "timeline": "Timeline",
    "diagnosis": "Diagnosis",
    "done": "What was done",
    "verification": "Verification",
    "prevention": "Prevention",
    "evidence": "Evidence",
}
"""The sections by their anchors, in the order in which a person in an incident reads."""
FALLS = 5
TEMPLATES = Path(__file__).parent / "templates"


def prepare() -> None:
    """Compile the templates, so that a report is written sooner."""
    for environment, ending in ((_environment(), ".html.j2"), (markdown_environment(), ".md.j2")):
        for name in environment.list_templates():
            if name.endswith(ending):
                environment.get_template(name)


def render(incident: Incident) -> str:
    """The HTML page of a cleaned incident: one file, readable on a screen, a phone and paper."""
    environment = _environment()
    stylesheet, _, _ = environment.loader.get_source(environment, "incident.css")  # type: ignore[union-attr]
    digest = hashlib.sha256(stylesheet.encode()).digest()
    diagnosed = sections.take(
        incident.diagnosis.tables if incident.diagnosis else (), sections.TABLES_DIAGNOSED
    )
    return environment.get_template("incident.html.j2").render(
        incident=incident,
        contents=CONTENTS,
        unproven=incident.unproven,
        sentence=verdict.sentence(incident),
        verdict=summary.verdict(incident),
        severity=verdict.severity(incident),
        scale=verdict.SCALE,
        status=verdict.status(incident),
        next_command=verdict.next_command(incident),
        falls=sections.take(incident.trend.falls if incident.trend else (), FALLS),
        sentences=summary.sentences(incident),
        blast=sections.blast_radius(incident),
        happened=happened(incident),
        diagnosed=diagnosed,
        charts=_charts(incident, diagnosed.items),
        compared=sections.compared(incident),
        actions=actions.actions(incident),
        prompts=actions.PROMPTS,
        findings_before=sections.groups(incident.findings_before),
        findings_after=sections.groups(incident.findings_after or ()),
        left=sections.left(incident),
        problems=sections.problems(incident),
        timings=sections.timings(incident),
        scope=sections.scopes(incident),
        stylesheet=Markup(stylesheet),  # noqa: S704 - our own file
        stylesheet_hash=base64.b64encode(digest).decode(),
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Charts:
    """The charts of a page; None where there is nothing to draw, or no library to draw it."""

    times: tuple[Markup | None, ...]
    coverage: Markup | None
    again: bool
    """Whether coverage was measured a second time."""
    runs: Markup | None


def _charts(incident: Incident, diagnosed: Sequence[DiagnosedTable]) -> Charts:
    lines = sections.coverages(incident)
    return Charts(
        times=tuple(charts.failures_over_time(table) for table in diagnosed),
        coverage=charts.coverage_by_tenant(lines),
        again=any(after is not None for _, _, after in lines),
        runs=charts.coverage_over_runs(incident.trend.runs) if incident.trend else None,
    )


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )
    for function in (
        number,
        wording.count,
        plural,
        wording.share,
        wording.cost,
        wording.tokens_taken,
        wording.duration,
        wording.moment,
        wording.machine_time,
        wording.first_upper,
        wording.span,
        wording.shortened,
        wording.name,
        wording.tenant,
        visible,
    ):
        environment.filters[function.__name__] = function
    environment.globals["take"] = sections.take
    return environment


def _finalize(value: object) -> object:
    """A value as a template prints it: no secret, no character that is obeyed instead of shown."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return visible(redactor.clean(value))
    return value

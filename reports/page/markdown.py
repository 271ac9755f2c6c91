"""Writes the incident as Markdown, for a wiki or an issue: the page in fewer words.

Every text from outside is escaped here; the template holds none of its own.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from checks.redaction import redactor
from checks.wording import number, plural, visible
from reports.page import actions, sections, summary, verdict, wording
from reports.page.happened import happened

if TYPE_CHECKING:
    from reports.values.incident import Incident, ScopedValue

TEMPLATES = Path(__file__).parent / "templates"
HTML = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
TENANTS = 20
"""Tenants that are listed; the JSON report has them all."""
SPECIAL = re.compile(r"[\\`*_\[\]<>|~$&]|^[-+#=]")
ENUMERATED = re.compile(r"^(\d+)([.)])(?=\s|$)")
"""What Markdown or HTML would obey; some of it at the beginning alone."""


def markdown(incident: Incident) -> str:
    """The incident in Markdown: headings, lists, tables and fenced statements."""
    diagnosed = incident.diagnosis.tables if incident.diagnosis is not None else ()
    untenanted = {table.name for table in incident.tables if table.tenant is None}

    def scope(line: ScopedValue) -> str:
        if line.whole_table or (line.tenant is None and line.table in untenanted):
            return "(whole table)"
        return "(no tenant)" if line.tenant is None else line.tenant

    return (
        markdown_environment()
        .get_template("incident.md.j2")
        .render(
            incident=incident,
            sentence=verdict.sentence(incident),
            verdict=summary.verdict(incident),
            severity=verdict.severity(incident),
            status=verdict.status(incident),
            next_command=verdict.next_command(incident),
            sentences={
                question: answer.striptags()
                for question, answer in summary.sentences(incident).items()
            },
            tenants=sections.take(list(incident.affected_tenants.items()), TENANTS),
            happened=happened(incident),
            diagnosed=sections.take(diagnosed, sections.TABLES_DIAGNOSED),
            compared=sections.compared(incident),
            left=sections.left(incident),
            problems=sections.problems(incident),
            timings=sections.timings(incident),
            actions=actions.actions(incident),
            prompts=actions.PROMPTS,
            findings=sections.groups(incident.findings_before),
            scope=scope,
        )
        + "\n"
    )


def escaped(text: str) -> str:
    """The text on one line, with nothing in it that Markdown or HTML would obey."""
    shown = visible(redactor.clean(text), keep="")
    shown = SPECIAL.sub(lambda found: HTML.get(found[0], f"\\{found[0]}"), shown)
    return ENUMERATED.sub(r"\1\\\2", shown)


def fenced(text: str) -> str:
    """The text as a block of code, behind a fence that nothing in it ends."""
    shown = visible(redactor.clean(text))
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", shown)), default=0))
    return f"{fence}\n{shown}\n{fence}"


@cache
def markdown_environment() -> Environment:
    """Compiles the template of the Markdown."""
    environment = Environment(  # noqa: S701 - no HTML; every value is escaped for Markdown
        loader=FileSystemLoader(TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else escaped(str(value)),
    )
    environment.filters |= {
        "number": number,
        "plural": plural,
        "count": wording.count,
        "moment": wording.moment,
        "duration": wording.duration,
        "tokens_taken": wording.tokens_taken,
        "cost": wording.cost,
        "shortened": wording.shortened,
        "first_upper": wording.first_upper,
        "fenced": lambda text: Markup(fenced(text)),  # noqa: S704 - not HTML; fenced
    }
    return environment

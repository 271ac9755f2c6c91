"""Writes a short text for a chat: the body that Slack's incoming webhooks and their like take."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from checks.redaction import for_terminal
from checks.wording import number
from reports.page import sections, verdict

if TYPE_CHECKING:
    from reports.values.incident import Incident

LINES = 8
LENGTH = 2_900
"""Slack cuts a text off at 4,000 characters, and a block of it at 3,000."""


def message(incident: Incident) -> str:
    """JSON with one key, `text`: verdict, severity, the worst checks, and what to type next."""
    severity = verdict.severity(incident)
    lines = [f"*Embedding integrity: {_shown(verdict.sentence(incident))}*"]
    if severity is not None:
        lines.append(f"Severity {severity[0]} ({severity[1]}), {verdict.status(incident)}.")
    compared = sections.compared(incident)
    for line in compared.items[:LINES]:
        now = "" if line.after is None else f", {number(line.after)} now"
        where = f"{_shown(line.check, 60)} in {_shown(line.table, 120)}"
        lines.append(f"• {where}: {number(line.before)} failing{now}")
    if (more := len(compared.items) - LINES + compared.left_out) > 0:
        lines.append(f"• and {number(more)} more")
    if (command := verdict.next_command(incident)) is not None:
        lines.append(f"Next: `{_shown(command.replace('`', ' '), 400)}`")
    lines.append(f"Run {incident.run_id}")
    return json.dumps({"text": "\n".join(lines)[:LENGTH]}, ensure_ascii=False) + "\n"


def _shown(text: str, length: int = 400) -> str:
    shown = for_terminal(text).replace("\n", " ")[:length]
    # Slack obeys these three alone, in <!channel> and <@user> too.
    return shown.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")

"""What must hold after every run, however it ended: the one check of the whole fault suite.

Reads the table, what the provider received and what the runs wrote; returns what is wrong, in words
that hold no secret. An empty list is a pass.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remediation.provider.bisection import CONTROL_TEXT
from tests.drivers.repairs import key_of
from tests.faults.stages.rows import ZERO, healthy, marked, own_md5, vector_md5
from tests.faults.stages.stage import WORD

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tests.faults.provider import Received
    from tests.faults.racer import Change
    from tests.faults.stages.rows import Row
    from tests.faults.stages.shapes import Shape
    from tests.faults.stages.stage import Run, Stage
    from tests.servers.provider_server import ReceivedRequest

OUTCOMES = ("fixed", "superseded", "quarantined", "failed", "skipped")
SUMMARY = re.compile(
    r"public\.docs: ([\d,]+)/([\d,]+) rows re-embedded, ([\d,]+) errors?"
    r"(?:, ([\d,]+) superseded)?(?:, ([\d,]+) skipped)?(?:, ([\d,]+) not begun)?"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """One run, and what was there before and after it."""

    stage: Stage
    run: Run
    before: Mapping[int, Row]
    after: Mapping[int, Row]
    received: Sequence[Received]
    """What came to the provider during the run."""
    raced: Sequence[Change] = ()
    """What a racer did during the run."""
    folder: Path | None = None
    """Of the run's report and journal; None where it came to neither."""


def broken(seen: Seen) -> list[str]:
    """Every promise that this run broke."""
    return [
        *wrong_rows(seen.before, seen.after, raced=seen.raced, shape=seen.stage.shape),
        *wrong_texts(seen.received, seen.before, seen.stage.owners, raced=bool(seen.raced)),
        *wrong_writes(seen.stage.written()),
        *_secrets(seen),
        *_account(seen),
    ]


def not_whole(seen: Seen) -> list[str]:
    """What is left to do after a run that nothing disturbed: nothing, and its status says so."""
    left = [row.id for row in seen.after.values() if not healthy(row)]
    wrong = [f"rows {left} are not whole after an undisturbed run"] if left else []
    if seen.run.status != 0:
        tail = seen.run.output[-2000:]
        wrong.append(f"an undisturbed run ended with {seen.run.status}; it said:\n{tail}")
    return wrong


def paid_again(earlier: Sequence[Received], later: Sequence[Received], fine: set[str]) -> int:
    """Texts that were paid in an earlier run and again in a later one; those of `fine` apart.

    `fine` are texts of healthy rows, which are probed in every run.
    """
    paid = {text for received in earlier if received.paid for text in received.texts}
    again = [text for received in later if received.paid for text in received.texts]
    return sum(text in paid and text not in fine for text in again)


def wrong_rows(
    rows: Mapping[int, Row],
    after: Mapping[int, Row],
    *,
    raced: Sequence[Change] = (),
    shape: Shape = "hashed",
) -> Iterator[str]:
    """Rows that are lost, changed in what is not ours, or that hold the vector of another text."""
    last = {change.id: change for change in raced if change.made}
    open_changes = _open_changes(raced)
    for key in sorted(rows.keys() | after.keys()):
        before, now = rows.get(key), after.get(key)
        change = last.get(key)
        if key in open_changes:
            continue  # the racer was ended within a change of this row
        if change is not None:
            yield from _raced_row(key, change, now, shape)
        elif now is None or before is None:
            yield f"row {key} {'is lost' if now is None else 'appeared'}"
        elif (now.tenant, now.body, now.note) != (before.tenant, before.body, before.note):
            yield f"row {key} has another tenant, text or note than before"
        elif healthy(before) and now != before:
            yield f"row {key} was healthy, and was written"
        elif now != before and not healthy(now):
            yield f"row {key} was written, and is not healthy"


def _raced_row(key: int, change: Change, now: Row | None, shape: Shape) -> Iterator[str]:
    if (now is None) != (change.tenant is None):
        yield f"row {key} is {'lost' if now is None else 'back'} after the racer's {change.kind}"
    if now is None or change.tenant is None:
        return
    if (now.tenant, now.body, now.note) != (change.tenant, change.body, change.note):
        yield f"row {key}: the racer's {change.kind} was overwritten"
    if change.own and now.vector != own_md5(now.body):
        yield f"row {key} held a vector of the racer's, which was overwritten"
    stale = now.vector not in (None, vector_md5(now.body), own_md5(now.body))
    if stale and not (shape != "plain" and marked(now)) and now.vector != ZERO:
        yield f"row {key} holds the vector of another text, and nothing tells of it"


def _open_changes(changes: Iterable[Change]) -> set[int]:
    begun: set[int] = set()
    for change in changes:
        (begun.discard if change.made else begun.add)(change.id)
    return begun


def wrong_writes(written: Iterable[tuple[int, str, str]]) -> Iterator[str]:
    """Vectors that were written to another text than theirs, were it only for a moment."""
    for key, body, vector in written:
        if vector not in (vector_md5(body), own_md5(body)):
            yield f"row {key} was given the vector of another text"


def wrong_texts(
    received: Iterable[Received | ReceivedRequest],
    rows: Mapping[int, Row],
    owners: Mapping[str, Collection[str]],
    *,
    raced: bool,
) -> Iterator[str]:
    """Texts that came with a foreign key, or that there was no reason to send."""
    tenant_of = {key_of(tenant): tenant for tenants in owners.values() for tenant in tenants}
    probes = {row.body for row in rows.values() if healthy(row)}
    failing = {row.body for row in rows.values()} - probes
    asked: Counter[str] = Counter()
    strange = 0
    for request in received:
        tenant = tenant_of.get(request.key or "")
        if tenant is None:
            yield "a request came with a key that is nobody's"
        if request.texts == (CONTROL_TEXT,):
            continue  # nobody's: whether the endpoint answers at all
        if any(tenant not in owners.get(text, ()) for text in request.texts):
            yield f"a request of {tenant} held a text that was never theirs"
        if getattr(request, "paid", True):
            asked.update(text for text in request.texts if text in probes)
        strange += sum(text not in probes and text not in failing for text in request.texts)
    # A racer makes new texts, and healthy rows that need us; else only failing rows are asked for,
    # and a few healthy ones once, to probe.
    if not raced and strange:
        yield f"{strange} texts were sent that are no row's"
    if not raced and max(asked.values(), default=0) > 1:
        yield f"healthy rows were asked for more than once: {asked.most_common(3)}"


def _secrets(seen: Seen) -> Iterator[str]:
    for name, text in seen.stage.everything_written():
        if WORD in text:
            yield f"{name} holds a text"
        if any(secret in text for secret in seen.stage.secrets):
            yield f"{name} holds a key or a password"


def _account(seen: Seen) -> Iterator[str]:
    if seen.folder is None:
        return
    last = _outcomes(seen.folder)
    raced = {change.id for change in seen.raced}
    for key, event in last.items():
        row = seen.after.get(key)
        if event["outcome"] != "fixed" or key in raced:
            continue
        if row is None or row.vector != event["written_md5"] or not healthy(row):
            yield f"row {key} is entered as fixed, and is not"
    report = seen.folder / "incident.json"
    if not report.exists():
        if seen.run.status >= 0:
            yield f"a run that ended with {seen.run.status} wrote no report"
        return
    if seen.run.status < 0:
        return
    repair = json.loads(report.read_text())["repair"]
    said = SUMMARY.search(seen.run.output)
    if repair is None or said is None:
        if last:
            yield "rows have outcomes, and the run does not tell of them"
        return
    counts = {name: sum(line[name] for line in repair["outcomes"]) for name in OUTCOMES}
    fixed, selected, errors, superseded, skipped, not_begun = (
        int((number or "0").replace(",", "")) for number in said.groups()
    )
    if sum(counts.values()) != selected - not_begun:
        yield f"{selected - not_begun} rows were selected, and the report's outcomes are {counts}"
    told = (fixed, errors, superseded, skipped)
    if told != (
        counts["fixed"],
        counts["failed"] + counts["quarantined"],
        counts["superseded"],
        counts["skipped"],
    ):
        yield f"the last line says {said.group()}, the report {counts}"
    entered = Counter(event["outcome"] for event in last.values())
    if last and {name: entered[name] for name in OUTCOMES} != counts:
        yield f"the journal's outcomes are {dict(entered)}, the report's {counts}"
    if not seen.raced and counts["superseded"]:
        yield f"{counts['superseded']} rows are said to be someone else's work; there was nobody"
    if seen.run.status == 0 and counts["fixed"] + counts["superseded"] != selected:
        yield f"a run that ended well left rows: {counts}"


def _outcomes(folder: Path) -> dict[int, dict[str, Any]]:
    """The last outcome of each row in the journal; a line that a kill cut off is none."""
    journal = folder / "journal.jsonl"
    last: dict[int, dict[str, Any]] = {}
    for line in journal.read_text().splitlines() if journal.exists() else ():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if event["event"] == "outcome":
            last[int(event["key"][0])] = event
    return last

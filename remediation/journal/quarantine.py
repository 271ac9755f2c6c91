"""Remembers texts that the provider refused for good, and checks that were repaired in vain.

Its memory is the journals in a folder of reports. Reads only, a line at a time.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from remediation.journal.journal import FIXED
from remediation.journal.outcomes import Outcome, Refused
from remediation.journal.past_journals import past_journals
from remediation.journal.sealed_lines import event_of
from remediation.journal.vain_writes import EVENT, VainWrites
from remediation.selection.preparation import shortest_form
from remediation.selection.row_reader import md5

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from checks.settings.integrity_toml import Provider
    from checks.targets.target import Target
    from remediation.journal.outcomes import RowName
    from remediation.journal.past_journals import PastJournal
    from remediation.provider.tokens import TokenCounter
    from remediation.selection.batching import FailingRow

REPLACING = b'"replacing"'
"""Near the beginning of the lines that hold almost all of a journal's bytes; they are not parsed.
"""
QUARANTINED = b'"quarantined"'
IN_VAIN = b'"in_vain"'


@dataclass(frozen=True, kw_only=True, slots=True)
class _Refusal:
    run_id: str
    refused: Refused
    reason: str


@dataclass(kw_only=True, slots=True)
class Quarantine:
    """The rows that earlier runs quarantined, and what they wrote in vain; by default none."""

    unreadable: tuple[str, ...] = ()
    """Journals that could not be read, in words."""
    _refusals: dict[RowName, _Refusal] = field(default_factory=dict)
    _vain: dict[str, VainWrites] = field(default_factory=dict)

    def in_vain(self, table: str) -> VainWrites | None:
        """What the latest run that wrote to a table in vain found, unless one helped since."""
        return self._vain.get(table)

    def reason(self, table: str, key: tuple[str, ...], sent: Callable[[], Refused]) -> str | None:
        """Why a row is not sent again whose last form would be what `sent` says, or None."""
        known = self._refusals.get((table, key))
        if known is None or known.refused != sent():
            return None
        return (
            f"quarantined in run {known.run_id}, not sent again while its text is the same"
            f" (--retry-quarantined sends it): {known.reason}"
        )

    def entries(self, table: str, keys: Iterable[Sequence[str]]) -> list[list[Any]]:
        """What is remembered of some rows of a table, as JSON can hold it."""
        known = [(key, self._refusals.get((table, tuple(key)))) for key in keys]
        return [
            [list(key), each.run_id, each.refused.model, each.refused.sent_md5, each.reason]
            for key, each in known
            if each is not None
        ]

    @classmethod
    def of_entries(cls, table: str, entries: Iterable[list[Any]]) -> Quarantine:
        """The quarantine that `entries` told of."""
        return cls(
            _refusals={
                (table, tuple(key)): _Refusal(
                    run_id=run_id, refused=Refused(model=model, sent_md5=md5_sent), reason=reason
                )
                for key, run_id, model, md5_sent, reason in entries
            }
        )


def refused(model: str, text: str) -> Refused:
    """Names a text that was sent to a model, by its md5."""
    return Refused(model=model, sent_md5=md5(text.encode("utf-8", "surrogatepass")))


def sent_for(row: FailingRow, target: Target, provider: Provider, counter: TokenCounter) -> Refused:
    """Names the last text that is sent for a prepared row before it is given up."""
    return refused(target.model_of(row.tenant), shortest_form(row.text, provider, counter))


def recall(directory: Path) -> Quarantine:
    """The quarantine by the journals in a folder of reports; each row's latest outcome counts."""
    known = Quarantine()
    unreadable = []
    try:
        journals = past_journals(directory)
    except OSError as error:
        return Quarantine(unreadable=(_words(f"the journals in {directory}", error),))
    for journal in journals:
        try:
            for event in _outcomes(journal, known):
                _enter(event, journal.run_id, known)
        except OSError as error:
            unreadable.append(_words(f"the journal of run {journal.run_id}", error))
    return replace(known, unreadable=tuple(unreadable))


def _outcomes(journal: PastJournal, known: Quarantine) -> Iterator[dict[str, Any]]:
    """The events that may count: quarantines, vain writes, and fixes once there is one of these."""
    for _, line in journal.lines():
        tells = QUARANTINED in line or IN_VAIN in line
        if REPLACING in line[:30] or not (
            tells or ((known._refusals or known._vain) and FIXED in line)
        ):
            continue
        event = event_of(line)
        if event is not None:
            yield event


def _enter(event: Mapping[str, Any], run_id: str, known: Quarantine) -> None:
    refusals, vain = known._refusals, known._vain
    try:
        table = event["table"]
        if event["event"] == EVENT:
            vain[table] = VainWrites.of_entry(event, run_id)
            return
        row = (table, tuple(event["key"]))
        if event["outcome"] == Outcome.FIXED:
            refusals.pop(row, None)
            if table in vain and vain[table].disproved_by(tuple(event["checks"])):
                del vain[table]
        elif event["outcome"] == Outcome.QUARANTINED and "sent_md5" in event:
            refusals[row] = _Refusal(
                run_id=run_id,
                refused=Refused(model=event["model"], sent_md5=event["sent_md5"]),
                reason=event["reason"],
            )
    except (LookupError, TypeError):
        return  # a damaged line


def _words(what: str, error: OSError) -> str:
    return f"{what} cannot be read ({error.strerror}): rows that it quarantined may be sent again"

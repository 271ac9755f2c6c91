"""Writes the forms of a report into the folder of its run, each whole or not at all."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from reports.outputs.message import message
from reports.page.html import render
from reports.page.markdown import markdown

if TYPE_CHECKING:
    from collections.abc import Iterable

    from checks.diagnosis.failing_keys import FailingKeys
    from reports.values.incident import Incident


@dataclass(frozen=True, kw_only=True, slots=True)
class WrittenReport:
    """Where the forms of a report are."""

    html: Path
    json: Path
    markdown: Path
    message: Path
    keys: Path
    """The keys of failing rows; not there where none were listed."""


def write(
    incident: Incident, directory: Path, keys: Iterable[FailingKeys | None] = ()
) -> WrittenReport:
    """Write JSON, Markdown, message, page and keys into `directory`/run id, replacing earlier ones.

    Only the owner may read them. The JSON comes first: it is the evidence should the page fail.

    Raises:
        OSError: the folder or a file cannot be written.
    """
    incident = incident.cleaned()
    folder = directory / incident.run_id
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    written = WrittenReport(
        html=folder / "incident.html",
        json=folder / "incident.json",
        markdown=folder / "incident.md",
        message=folder / "message.json",
        keys=folder / "failing-keys.jsonl",
    )
    replace(written.json, [incident.model_dump_json(indent=2), "\n"])
    replace(written.markdown, [markdown(incident)])
    replace(written.message, [message(incident)])
    replace(written.html, [render(incident)])
    if listed := [one for one in keys if one is not None and one.listed]:
        replace(written.keys, chain.from_iterable(one.lines() for one in listed))
    return written


def replace(path: Path, pieces: Iterable[str], *, mode: int = 0o600) -> None:
    """Write a file whole or not at all, readable by its owner alone unless `mode` says otherwise.

    Raises OSError.
    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(pieces)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(mode)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise

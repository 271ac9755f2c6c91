"""A process that edits, deletes, inserts again and moves rows at full speed while a repair runs.

It is the only one but the repair to write, and logs every change before and after it is made, so
that what is in the table afterwards can be held against what it did.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import psycopg

from tests.faults.stages.rows import own_vector, snapshot
from tests.faults.stages.shapes import SHAPES
from tests.servers.provider_server import vector_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from tests.faults.stages.rows import Row
    from tests.faults.stages.shapes import Shape
    from tests.faults.stages.stage import Stage

REPOSITORY = Path(__file__).resolve().parents[2]
URL_VARIABLE = "RACER_URL"
"""A command line would show the password to every user."""
STOP_SECONDS = 30.0
HOLD_SECONDS = 0.05
"""How long a change is now and then left uncommitted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What a row was after a change of the racer's; `tenant` None: it was deleted.

    `made` is False of a change that was only announced: it may have been made.
    """

    id: int
    kind: str
    tenant: str | None
    body: str
    note: str
    made: bool
    own: bool = False
    """Whether the row holds a vector of the racer's own, which fails nothing: it must stay."""


class Racer:
    """The process, from this side: it races while the `with` block runs, or until its last edit."""

    def __init__(self, stage: Stage, *, seed: int, edits: int, pause: float = 0.0) -> None:
        """`pause` in seconds between two changes; `edits` is where it ends by itself."""
        self._stage = stage
        self._arguments = [
            f"--seed={seed}",
            f"--edits={edits}",
            f"--shape={stage.shape}",
            f"--pause={pause}",
        ]
        self.before: dict[int, Row] = {}
        """The table as it was before the first change."""
        self.changes: list[Change] = []
        self._going = threading.Event()

    def go(self, *_: object) -> None:
        """Begin. For `Link.when` and `Provider.when` alike."""
        assert self._process.stdin is not None
        if not self._going.is_set():
            self._going.set()
            self._process.stdin.write("go\n")
            self._process.stdin.flush()

    @property
    def made(self) -> int:
        """Changes that were made."""
        return sum(change.made for change in self.changes)

    def __enter__(self) -> Self:
        self.before = self._stage.rows()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.racer", *self._arguments],
            cwd=REPOSITORY,
            env={**os.environ, URL_VARIABLE: self._stage.url},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True, name="racer")
        self._reader.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        if self._process.returncode and error is None:
            raise RuntimeError(f"the racer ended with {self._process.returncode}")

    def stop(self) -> None:
        """End it after the change that it is at, and know all that it did."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self._process.stdin.closed:
            return
        self._process.stdin.close()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(STOP_SECONDS)
        self._process.stdout.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            change = Change(**json.loads(line))
            if change.tenant is not None:
                # Before it is made: a repair may send the text at once.
                self._stage.owners[change.body].add(change.tenant)
            self.changes.append(change)


def main() -> None:
    """Wait for a line, then change rows until the last edit or the end of standard input."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults.racer", description=__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--edits", type=int, required=True)
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--pause", type=float, default=0.0)
    options = parser.parse_args()
    with psycopg.connect(os.environ[URL_VARIABLE], autocommit=True) as connection:
        field = _Field(connection, random.Random(options.seed), options.shape)
        if not sys.stdin.readline():
            return
        for _ in range(options.edits):
            field.change()
            ended, _, _ = select.select([sys.stdin], [], [], options.pause)
            if ended:
                return


class _Field:
    """The table as the racer knows it, and its next change."""

    def __init__(
        self, connection: psycopg.Connection[Any], chance: random.Random, shape: Shape
    ) -> None:
        self._connection = connection
        self._chance = chance
        self._shape = shape
        self._rows: dict[int, Row] = snapshot(connection, stored=shape == "stored")
        self._tenants = sorted({row.tenant for row in self._rows.values()})
        self._text: dict[int, tuple[str, str, str]] = {
            row.id: (row.tenant, row.body, row.note) for row in self._rows.values()
        }
        self._gone: dict[int, tuple[str, str, str]] = {}
        self._own: set[int] = set()
        self._number = 0

    def change(self) -> None:
        """One change of one row, announced, made, and told of."""
        self._number += 1
        kinds = ["edit"] * 5 + ["move", "delete", "touch", "forget", "repair", "own"]
        kind = self._chance.choice(kinds)
        if self._gone and self._chance.random() < 0.2:
            kind = "insert"
        key = self._chance.choice(sorted(self._gone if kind == "insert" else self._text))
        tenant, body, note = (self._gone if kind == "insert" else self._text)[key]
        if kind in ("edit", "insert"):
            body = f"{body.split(' edit ')[0]} edit {self._number}"
        if kind in ("move", "insert"):
            tenant = self._chance.choice(self._tenants)
        if kind == "touch":
            note = f"touched {self._number}"
        self._tell(key, kind, tenant, body, note, made=False)
        # Now and then the row is held for a while, as by an application's long transaction.
        hold = self._chance.random() < 0.05
        with self._connection.transaction():
            for statement, parameters in self._statements(kind, key, tenant, body, note):
                self._connection.execute(statement, parameters)
            if hold:
                self._connection.execute("SELECT pg_sleep(%s)", (HOLD_SECONDS,))
        (self._gone if kind == "insert" else self._text).pop(key)
        (self._gone if kind == "delete" else self._text)[key] = (tenant, body, note)
        if kind == "own":
            self._own.add(key)
        elif kind not in ("touch", "move"):
            self._own.discard(key)
        self._tell(key, kind, None if kind == "delete" else tenant, body, note, made=True)

    def _statements(
        self, kind: str, key: int, tenant: str, body: str, note: str
    ) -> Iterator[tuple[str, tuple[object, ...]]]:
        if kind == "delete":
            yield "DELETE FROM docs WHERE id = %s", (key,)
        elif kind == "insert":
            yield (
                "INSERT INTO docs (id, tenant, body, note) VALUES (%s, %s, %s, %s)",
                (key, tenant, body, note),
            )
            if self._shape != "stored":
                yield "UPDATE docs SET content_hash = md5(body) WHERE id = %s", (key,)
        elif kind == "edit" and self._shape == "plain":
            yield (
                "UPDATE docs SET body = %s, content_hash = md5(%s), embedding = NULL WHERE id = %s",
                (body, body, key),
            )
        elif kind == "edit":
            yield "UPDATE docs SET body = %s WHERE id = %s", (body, key)
        elif kind == "move":
            yield "UPDATE docs SET tenant = %s WHERE id = %s", (tenant, key)
        elif kind == "touch":
            yield "UPDATE docs SET note = %s WHERE id = %s", (note, key)
        elif kind == "forget" and self._shape == "stored":
            yield "DELETE FROM vectors WHERE doc_id = %s", (key,)
        elif kind == "forget":
            yield "UPDATE docs SET embedding = NULL WHERE id = %s", (key,)
        else:
            of_body = own_vector(body) if kind == "own" else vector_of(body)
            vector = "[" + ",".join(map(str, of_body.tolist())) + "]"
            if self._shape == "stored":
                yield (
                    "INSERT INTO vectors VALUES (%s, %s::vector, md5(%s)) ON CONFLICT (doc_id)"
                    " DO UPDATE SET embedding = excluded.embedding,"
                    " content_hash = excluded.content_hash",
                    (key, vector, body),
                )
                return
            yield (
                "UPDATE docs SET embedding = %s::vector, content_hash = md5(body) WHERE id = %s",
                (vector, key),
            )

    def _tell(
        self, key: int, kind: str, tenant: str | None, body: str, note: str, *, made: bool
    ) -> None:
        change = {"id": key, "kind": kind, "tenant": tenant, "body": body, "note": note}
        print(json.dumps({**change, "made": made, "own": key in self._own}), flush=True)


if __name__ == "__main__":
    main()

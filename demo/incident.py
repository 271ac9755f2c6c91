"""Builds the incident in an empty database: rows without an embedding, among healthy ones.

The story. Two workers embed new insights, one for the queue `eu`, one for `us`. One evening at
21:40 (UTC) the `eu` worker loses its name resolution. Each job is tried three times, then
acknowledged and dropped; nothing crashes, the table fills on, no alert exists for a column that
stays NULL. At 05:25 the worker is restarted for another reason, and new rows have embeddings
again. Every insight that an `eu` tenant created in between has none: many of globex, which imports
its backlog at night, few of initech, which works in office hours, and none of the `us` tenants.
Nobody notices for days. There is an older fault, too: support macros kept from a prototype that
embedded with 768 dimensions, in a column that takes any. Empty drafts, deleted rows and a
table that does not exist yet are there as in any real database, and are no faults.
"""

from __future__ import annotations

import random
import secrets
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, LiteralString

from pgvector.psycopg import register_vector
from psycopg import sql

from demo.embedding import DIMENSIONS, MODEL, embed
from demo.texts import Documented, documentation

if TYPE_CHECKING:
    from collections.abc import Callable

    from psycopg import Connection

INSIGHTS_TABLE: LiteralString = "public.workflow_insights"
MACROS_TABLE: LiteralString = "public.support_macros"

INSIGHTS = {
    "acme": 2200,
    "globex": 1350,
    "initech": 850,
    "umbrella": 520,
    "hooli": 340,
    "wonka": 200,
    "wayne": 95,
    "tyrell": 45,
}
"""Rows of `workflow_insights` by tenant that ought to have an embedding."""

TENANTS = tuple(INSIGHTS)

MISSING_BY_TENANT = {"acme": 41, "globex": 214, "initech": 9, "umbrella": 97, "wonka": 21}
"""The tenants of the queue `eu`, and how many of their rows have a NULL embedding."""

MISSING = sum(MISSING_BY_TENANT.values())
"""382."""

MACROS = {"acme": 120, "globex": 80, "hooli": 40}
"""Rows of `support_macros` by tenant."""

WRONG_DIMENSION_BY_TENANT = {"acme": 2, "hooli": 5}
"""Rows of `support_macros` that hold a vector of `PROTOTYPE_DIMENSIONS`, by tenant."""

PROTOTYPE_DIMENSIONS = 768

SOFT_DELETED = 24
BLANK = 6
"""Further rows of `workflow_insights` with a NULL embedding that are not failing."""

DAYS = 90
OUTAGE_DAYS_AGO = 11
OUTAGE_START = time(21, 40)
OUTAGE_END = time(5, 25)
"""Of the next day; both UTC."""

QUESTION = "How do I get a list of the closest matches for a misspelled word?"
ANSWER = "difflib.get_close_matches"
ANSWER_TENANT = "globex"
"""The answer to the question is among the tenant's missing rows."""

LONGEST_TEXT = 6000
"""Letters; longer texts could exceed the provider's 8,191 tokens, which is another story."""

SEED = 382

SCHEMA = Path(__file__).with_suffix(".sql")

COLUMNS: LiteralString = (
    'id, "tenantId", title, body, kind, source, "createdAt", "updatedAt", "deletedAt", embedding'
)
ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"

SOURCES = dict.fromkeys(TENANTS, (5, 4, 1)) | {"globex": (1, 1, 8), "umbrella": (1, 4, 5)}
"""Weights of chat, ticket and import: who imports at night is hit hardest."""

TYPES = (*["text"] * 6, *["timestamp"] * 3, "vector")


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """From `start` up to, not including, `end`; UTC, without a time zone as Prisma stores it."""

    start: datetime
    end: datetime

    def holds(self, moment: datetime) -> bool:
        """Whether the moment is in the window."""
        return self.start <= moment < self.end


def outage(now: datetime) -> Window:
    """When the `eu` worker was out, relative to `now` (an aware moment)."""
    evening = now.astimezone(UTC).date() - timedelta(days=OUTAGE_DAYS_AGO)
    return Window(
        start=datetime.combine(evening, OUTAGE_START),
        end=datetime.combine(evening + timedelta(days=1), OUTAGE_END),
    )


def new_keys() -> dict[str, str]:
    """A random API key for each tenant, of the form of OpenAI's."""
    return {tenant: f"sk-demo-{secrets.token_urlsafe(32)}" for tenant in TENANTS}


def embedded_text(title: str, body: str | None) -> str:
    r"""The text that is embedded; `concat_ws(E'\n\n', title, body)` in SQL, as settings declare."""
    return title if body is None else f"{title}\n\n{body}"


def build(
    connection: Connection,
    *,
    now: datetime | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Window:
    """Create the tables and rows, commit, and return the window of the outage.

    The same texts, tenants and vectors on every call; the times follow `now` (default: the clock).
    `progress` is told table, rows done and rows in all. Takes a few seconds. Raises
    psycopg.errors.DuplicateTable if the tables are there already.
    """
    now = datetime.now(UTC) if now is None else now
    window = outage(now)
    made = _rows(now, window)
    connection.execute(SCHEMA.read_text(encoding="utf-8").encode())
    register_vector(connection)
    for table, rows in made.items():
        _copy(connection, table, rows, progress)
        connection.execute(sql.SQL("ANALYZE {}").format(sql.SQL(table)))
    connection.commit()
    return window


@dataclass(frozen=True, kw_only=True, slots=True)
class _Row:
    """A row to insert; `dimensions` are those of its vector, None for a row without one."""

    tenant: str
    text: Documented
    created: datetime
    dimensions: int | None = DIMENSIONS[MODEL]
    deleted: datetime | None = None


def _rows(now: datetime, window: Window) -> dict[LiteralString, list[_Row]]:
    """The rows of each table, in the order of their creation."""
    chance = random.Random(SEED)
    short = [text for text in documentation() if len(text.docstring) <= LONGEST_TEXT]
    (answer,) = (text for text in short if text.name == ANSWER)
    texts = [text for text in short if text.name != ANSWER]
    chance.shuffle(texts)
    latest = now.astimezone(UTC).replace(tzinfo=None) - timedelta(hours=2)

    def moment(tenant: str) -> datetime:
        """Any time of the last days; outside the outage where its rows are all missing."""
        while True:
            created = latest - timedelta(days=DAYS) * chance.random()
            if tenant not in MISSING_BY_TENANT or not window.holds(created):
                return created

    def moment_of_outage() -> datetime:
        return window.start + (window.end - window.start) * chance.random()

    def row(tenant: str, created: datetime, dimensions: int | None = DIMENSIONS[MODEL]) -> _Row:
        return _Row(tenant=tenant, text=texts.pop(), created=created, dimensions=dimensions)

    insights: list[_Row] = []
    for tenant, count in INSIGHTS.items():
        missing = MISSING_BY_TENANT.get(tenant, 0)
        insights += [row(tenant, moment_of_outage(), None) for _ in range(missing)]
        insights += [row(tenant, moment(tenant)) for _ in range(count - missing)]
    first_missing = next(
        place
        for place, made in enumerate(insights)
        if made.tenant == ANSWER_TENANT and made.dimensions is None
    )
    insights[first_missing] = replace(insights[first_missing], text=answer)
    for _ in range(SOFT_DELETED):
        gone = row(chance.choice(TENANTS[:4]), latest - timedelta(days=chance.uniform(20, DAYS)))
        gone_at = gone.created + timedelta(days=chance.uniform(1, 15))
        insights.append(replace(gone, dimensions=None, deleted=gone_at))
    for draft in range(BLANK):
        blank = Documented(name="", docstring=" " * (draft % 3))
        created = moment("acme")
        insights.append(_Row(tenant="acme", text=blank, created=created, dimensions=None))
    macros: list[_Row] = []
    for tenant, count in MACROS.items():
        wrong = WRONG_DIMENSION_BY_TENANT.get(tenant, 0)
        # The prototype came first, so its rows are the oldest of the table.
        first = latest - timedelta(days=DAYS)
        macros += [
            row(tenant, first - timedelta(days=chance.uniform(0, 5)), PROTOTYPE_DIMENSIONS)
            for _ in range(wrong)
        ]
        macros += [row(tenant, moment("")) for _ in range(count - wrong)]
    return {
        INSIGHTS_TABLE: sorted(insights, key=lambda made: made.created),
        MACROS_TABLE: sorted(macros, key=lambda made: made.created),
    }


def _copy(
    connection: Connection,
    table: LiteralString,
    rows: list[_Row],
    progress: Callable[[str, int, int], None] | None,
) -> None:
    chance = random.Random(SEED + 1)
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)")
    command = statement.format(sql.SQL(table), sql.SQL(COLUMNS))
    with connection.cursor() as cursor, cursor.copy(command) as copy:
        # Binary takes no cast: each column is sent as exactly its type.
        copy.set_types(TYPES)
        for done, row in enumerate(rows, start=1):
            title, body = row.text.name, row.text.docstring
            vector = None
            if row.dimensions is not None:
                vector = embed(embedded_text(title, body), dimensions=row.dimensions)
            source = chance.choices(("chat", "ticket", "import"), SOURCES[row.tenant])[0]
            kind = "reference" if "." in title else "overview"
            changed = row.deleted or row.created
            times = (row.created, changed, row.deleted)
            key = _cuid(chance, row.created)
            copy.write_row((key, row.tenant, title, body, kind, source, *times, vector))
            if progress is not None and (done % 100 == 0 or done == len(rows)):
                progress(table, done, len(rows))


def _cuid(chance: random.Random, created: datetime) -> str:
    """A key as Prisma's `cuid()` makes it: the letter c, the time in base 36, then chance."""
    milliseconds = int(created.replace(tzinfo=UTC).timestamp() * 1000)
    stamp = ""
    while milliseconds:
        milliseconds, digit = divmod(milliseconds, 36)
        stamp = ALPHABET[digit] + stamp
    return f"c{stamp}{''.join(chance.choices(ALPHABET, k=16))}"

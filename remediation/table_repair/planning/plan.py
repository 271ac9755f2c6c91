"""Plans a repair: rows, requests, tokens, dollars and time, from the repair's own selection.

Reads the database, asks no provider, writes nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from pydantic import SecretStr

from checks.wording import dollars
from remediation.journal.quarantine import sent_for
from remediation.provider.keys import MissingKey
from remediation.provider.rate_limits import WINDOW
from remediation.selection.batching import batch_limits, batches
from remediation.selection.preparation import prepare
from remediation.table_repair.circuit_breaker import healed_by_any_vector
from remediation.table_repair.planning.estimate import Estimate
from remediation.table_repair.probing.samples import samples
from remediation.table_repair.probing.second_look import most_of_second_look
from remediation.throttling.budget import TOKENS_PER_PRICE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from checks.database.connection import Connection
    from checks.examination.table_examination import TableExamination
    from checks.settings.integrity_toml import Settings
    from remediation.journal.quarantine import Quarantine
    from remediation.provider.keys import KeyRing
    from remediation.provider.tokens import TokenCounter
    from remediation.selection.batching import FailingRow
    from remediation.selection.row_reader import RowReader
    from remediation.table_repair.planning.estimate import Rates


@dataclass(frozen=True, kw_only=True, slots=True)
class TenantPlan:
    """What the repair would do for one tenant of one table."""

    tenant: str | None
    rows: int
    requests: int
    tokens: int
    missing_key: str | None
    """Why its rows cannot be repaired, as it holds for every tenant; None where a key was found."""
    host: str | None = None
    """Of its own endpoint; None where that is the settings', as for the model below."""
    model: str | None = None
    """What is asked for in place of the table's model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TablePlan:
    """What the repair would do for one table. `unrepairable` says why it would do nothing."""

    table: str
    model: str
    tenants: tuple[TenantPlan, ...] = ()
    without_text: int = 0
    """Failing rows that nothing can be sent for; they would be quarantined."""
    quarantined: int = 0
    """Failing rows whose text the provider refused in an earlier run; they are not sent again."""
    in_vain: int = 0
    """Failing rows that are not sent, as they fail no check but those below."""
    hopeless: Mapping[str, str] = field(default_factory=dict)
    """Checks that an earlier run repaired in vain, and why nothing is asked for their rows."""
    probe_requests: int = 0
    probe_tokens: int = 0
    second_look: tuple[int, int] = (0, 0)
    """Requests and tokens that are needed at most where the probe disagrees; not in the sums."""
    estimate: Estimate | None = None
    """How long it would take; None where nothing would be done."""
    counted: str = ""
    """How tokens were counted, in words."""
    cut: tuple[str, ...] = ()
    """What is left to a later run, in words."""
    unrepairable: str | None = None
    failing: int = 0
    """Failing rows by the scan's count, where the table is unrepairable."""

    @property
    def rows(self) -> int:
        """Rows that would be sent to the provider."""
        return sum(tenant.rows for tenant in self.tenants if tenant.missing_key is None)

    @property
    def seconds(self) -> float:
        return 0.0 if self.estimate is None else self.estimate.seconds

    @property
    def rows_without_key(self) -> int:
        return sum(tenant.rows for tenant in self.tenants if tenant.missing_key is not None)

    @property
    def selected(self) -> int:
        """Rows that the repair would give an outcome, those that are not sent included."""
        return (
            self.rows + self.rows_without_key + self.without_text + self.quarantined + self.in_vain
        )

    @property
    def requests(self) -> int:
        """Requests of the repair, those of the probe not included."""
        return sum(tenant.requests for tenant in self.tenants if tenant.missing_key is None)

    @property
    def tokens(self) -> int:
        """Tokens of the repair, those of the probe not included."""
        return sum(tenant.tokens for tenant in self.tenants if tenant.missing_key is None)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The plan of a run over all tables that have something to repair."""

    tables: tuple[TablePlan, ...]
    price_per_million_tokens: float
    max_rows: int
    max_cost: float
    spent: float = 0.0
    """Dollars that the run has spent already, on its canary."""
    notes: tuple[str, ...] = ()
    """What stood in the way of a complete plan, in words."""

    def table(self, name: str) -> TablePlan:
        """The plan of one table. Raises KeyError where it has none."""
        return {table.table: table for table in self.tables}[name]

    @property
    def rows(self) -> int:
        return sum(table.rows for table in self.tables)

    @property
    def selected(self) -> int:
        """Rows that the repair would give an outcome, those that are not sent included."""
        return sum(table.selected for table in self.tables)

    @property
    def requests(self) -> int:
        """All requests, those of the probe included."""
        return sum(table.requests + table.probe_requests for table in self.tables)

    @property
    def tokens(self) -> int:
        """All tokens, those of the probe included."""
        return sum(table.tokens + table.probe_tokens for table in self.tables)

    @property
    def dollars(self) -> float:
        return self.dollars_of(self.tokens)

    def dollars_of(self, tokens: int) -> float:
        return tokens * self.price_per_million_tokens / TOKENS_PER_PRICE

    @property
    def seconds(self) -> float:
        return sum(table.seconds for table in self.tables)

    @property
    def capped(self) -> str | None:
        """Which cap the plan would run into, in words."""
        if self.rows > self.max_rows:
            return f"the cap of {self.max_rows:,} rows would stop the repair early (--max-rows)"
        if self.spent + self.dollars > self.max_cost:
            return f"the cap of {dollars(self.max_cost)} would stop the repair early (--max-cost)"
        return None


def refusal(table: TableExamination) -> str | None:
    """Why a table with failing rows is not repaired at all, or None."""
    if table.target.problems:
        return f"{table.target.name} is not as declared (see its schema check)"
    return table.target.unrepairable


def plan_table(
    connection: Connection,
    table: TableExamination,
    reader: RowReader,
    *,
    settings: Settings,
    keys: KeyRing,
    counter: TokenCounter,
    tenants: Sequence[str] | None,
    quarantine: Quarantine,
    hopeless: Mapping[str, str],
    rates: Rates,
) -> TablePlan:
    """Stream the failing rows through preparation and batching, and add up; keeps no row.

    Rows are not sent that fail no check but `hopeless` ones: which, and why.
    """
    rows, requests, tokens = Counter[str | None](), Counter[str | None](), Counter[str | None]()
    without_text = quarantined = in_vain = 0
    reasons: set[str] = set()
    provider = settings.provider

    def prepared() -> Iterator[FailingRow]:
        nonlocal without_text, quarantined, in_vain
        for row in reader.failing_rows(connection, tenants=tenants):
            if hopeless.keys() >= set(row.checks):
                in_vain += 1
                continue
            ready = prepare(row, provider, counter)
            if ready.refused is not None:
                without_text += 1
                continue
            sent = partial(sent_for, ready.row, table.target, provider, counter)
            if quarantine.reason(table.target.name, row.key, sent) is None:
                yield ready.row
            else:
                quarantined += 1

    for batch in batches(prepared(), limits=batch_limits(settings), counter=counter):
        rows[batch.tenant] += len(batch.rows)
        requests[batch.tenant] += 1
        reasons.update(check for row in batch.rows for check in row.checks)
        tokens[batch.tenant] += batch.tokens
    lines = []
    for tenant, count in rows.most_common():
        key = keys.find(tenant)
        own = None if isinstance(key, MissingKey) else key.own
        model = table.target.model_of(tenant)
        if own is not None and own.model is not None:
            model = own.model
        lines.append(
            TenantPlan(
                tenant=tenant,
                rows=count,
                requests=requests[tenant],
                tokens=tokens[tenant],
                missing_key=key.cause if isinstance(key, MissingKey) else None,
                host=None if own is None else own.host,
                model=model if model != table.target.model else None,
            )
        )
    probed = [
        sample
        for group in samples(
            connection,
            reader,
            tenants=[line.tenant for line in lines if line.missing_key is None],
            rows=settings.repair.probe,
            provider=provider,
            counter=counter,
        )
        for sample in group
    ]
    sent = TablePlan(table=table.target.name, model=table.target.model, tenants=tuple(lines))
    return replace(
        sent,
        without_text=without_text,
        quarantined=quarantined,
        in_vain=in_vain,
        hopeless=hopeless,
        probe_requests=len(probed),
        probe_tokens=sum(sample.tokens for sample in probed),
        second_look=most_of_second_look(probed, provider),
        estimate=Estimate(
            rates=rates,
            probe_requests=len(probed),
            requests=sent.requests,
            rows=sent.rows,
            concurrency=settings.provider.concurrency,
            begins_alone=not reasons <= healed_by_any_vector(table.target),
            writers=settings.repair.write_concurrency,
            by_limits=_seconds_by_limits(lines, settings, keys),
        ),
        counted=counter.description,
        cut=reader.cut,
    )


def _seconds_by_limits(lines: Sequence[TenantPlan], settings: Settings, keys: KeyRing) -> float:
    """The least time that the limits of a minute allow the key with the most to send."""
    requests, tokens = Counter[SecretStr](), Counter[SecretStr]()
    for line in lines:
        key = keys.find(line.tenant)
        if not isinstance(key, MissingKey):
            requests[key.secret] += line.requests
            tokens[key.secret] += line.tokens
    windows = 0
    for used, limit in (
        (requests, settings.repair.requests_per_minute),
        (tokens, settings.repair.tokens_per_minute),
    ):
        if limit is not None:
            # The first window's worth is sent at once.
            windows = max([windows, *((count - 1) // limit for count in used.values())])
    return windows * WINDOW

"""Asks before the first write whether the provider still answers as it did for healthy rows.

A wrong model or text expression of the right dimension poisons a table in silence; a few healthy
rows, embedded again, show it. Writes nothing.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from checks.awake import wait_for_all, wait_for_one, wait_until_quiet
from checks.canary.sampler import cosine
from checks.findings.finding import tenant_words
from checks.wording import plural
from remediation.provider.bisection import embed_isolating
from remediation.provider.errors import (
    InputRejected,
    KeyRefused,
    ModelUnavailable,
    UntrustworthyResponse,
)
from remediation.provider.usage import NOTHING, Usage
from remediation.table_repair.probing.late_probes import LATE_SECONDS, LateProbe
from remediation.throttling.wait_reasons import keys_must_wait

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from remediation.provider.embedders import Embedders
    from remediation.provider.endpoint import Endpoint
    from remediation.provider.errors import ProviderError
    from remediation.table_repair.probing.late_probes import LateProbes
    from remediation.table_repair.probing.samples import Sample
    from remediation.table_repair.probing.text_variants import BetterText
    from remediation.throttling.budget import Budget
    from remediation.throttling.wait_reasons import WaitReason

TENANTS_SHOWN = 5
COSINES_SHOWN = 3

FAR = 0.9
"""A cosine below it is no other separator's: the vector is of another model or another text."""

LENGTH_TOLERANCE = 0.01
"""Of a vector's length; rounding to halfvec, or to 8 bits an element, changes less."""

TENANTS_LOOKED_AT = 3
"""Tenants at whom the probe looks again where they disagree."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeResult:
    """One tenant's probe: the cosine of each re-embedded healthy row with what is stored."""

    tenant: str | None
    least: float
    """The cosine from which on a row agrees; lowered where noise explains what is missing."""
    cosines: tuple[float, ...] = ()
    found: str = ""
    """What a second look found out, in words; empty without one."""
    better: BetterText | None = None
    """Another text that a second look found to agree better."""
    failure: ProviderError | None = None
    usage: Usage = NOTHING
    endpoint: Endpoint | None = None
    """Where it was asked; None: nowhere."""
    heard: Mapping[str, str] = field(default_factory=dict)
    """Other names of the model in its answers, each as shown, that agreement would prove."""
    own: bool = False
    """Whether the tenant has an endpoint or a model of its own, which says nothing of others'."""

    @property
    def unanswered(self) -> str | None:
        """Why there is nothing to compare although there are healthy rows; None where there is."""
        if self.cosines:
            return None
        reason = "its samples were refused" if self.failure is None else self.failure.reason
        return f"the probe got no answer to rely on, and nothing unproven is written: {reason}"

    @property
    def agrees(self) -> bool:
        """Whether nothing speaks against writing; a tenant without healthy rows shows nothing."""
        return all(cosine >= self.least for cosine in self.cosines)

    @property
    def numbers(self) -> str:
        """The cosines, and what was heard and found beside them, for people."""
        named = f"answered as {' and '.join(self.heard.values())}" if self.heard else ""
        return "; ".join(filter(None, (self.first_cosines, self.found, named)))

    @property
    def first_cosines(self) -> str:
        return ", ".join(f"{cosine:.6f}" for cosine in self.cosines[:COSINES_SHOWN])

    @property
    def refused(self) -> str | None:
        """Why nothing is written for this tenant alone, or None."""
        if self.agrees or not self.own:
            return self.unanswered
        return (
            f"the probe refused: healthy rows, embedded again by this tenant's own endpoint or"
            f" model, have a cosine under {self.least} with what is stored ({self.numbers});"
            " correct base_url and model of [keys] sql, or tenant_models"
        )

    @property
    def refused_late(self) -> str | None:
        """Why nothing is written for this tenant, where others were written for before it."""
        if self.agrees:
            return None
        return (
            "the probe refused: healthy rows, embedded again, have a cosine under"
            f" {self.least} with what is stored ({self.numbers}), though those of other tenants,"
            " whose answers came sooner, agree"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Probed:
    """All tenants' probes. `stopped` says why the repair must not go on."""

    results: tuple[ProbeResult, ...] = ()
    stopped: str | None = None


def probe(
    groups: Iterable[Sequence[Sample]],
    embedders: Embedders,
    *,
    budget: Budget,
    concurrency: int,
    least: float,
    before_request: Callable[[], None],
    meanwhile: Callable[[WaitReason | None], None],
    again: Callable[[ProbeResult], ProbeResult],
    answered: Callable[[ProbeResult], None],
    late: LateProbes | None,
    earlier: Sequence[ProbeResult] = (),
) -> Probed:
    """Embed the samples again, each with its tenant's own key, in one request a tenant.

    `before_request` is called on the caller's thread ahead of each, and may wait; `meanwhile` again
    and again while an answer is waited for, with what keeps every key from being used, if anything.
    A row agrees from a cosine of `least` on; `again` looks a second time at the few tenants of whom
    one does not. Once one agrees, those that have no answer for a while go into `late`, or are
    waited for where it is None. `earlier` are other tenants' of the same table. What any of them
    raises ends the probe; `answered` is told of each answer before, so that what was asked is
    accounted whatever ends it.
    """
    results = list(earlier)
    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="probe")
    try:
        for group in groups:
            tokens = sum(sample.tokens for sample in group)
            if not budget.affords(tokens):
                return Probed(results=tuple(results), stopped=budget.no_money_left)
            budget.reserve(rows=0, tokens=tokens)
            took: list[Usage] = []
            try:
                answers = _asked(
                    pool,
                    embedders,
                    group,
                    concurrency=concurrency,
                    least=least,
                    before_request=before_request,
                    meanwhile=meanwhile,
                    answered=answered,
                    took=took.append,
                    late=late,
                    agreed=any(result.cosines and result.agrees for result in results),
                )
            finally:
                unanswered = () if late is None else late.tenants
                tokens = sum(sample.tokens for sample in group if sample.tenant not in unanswered)
                budget.settle(reserved=tokens, took=sum(took, NOTHING))
            results += answers
    finally:
        # Whoever is late is waited for by those who need the answer.
        pool.shutdown(wait=False)
    against = [i for i in range(len(earlier), len(results)) if not results[i].agrees]
    for position in against[:TENANTS_LOOKED_AT]:
        results[position] = again(results[position])
    explained = [results[i].least for i in against[:TENANTS_LOOKED_AT] if results[i].agrees]
    if len(explained) == TENANTS_LOOKED_AT:
        # The noise of one endpoint is that of all its tenants.
        results = [r if r.own or r.found else replace(r, least=min(explained)) for r in results]
    return Probed(results=tuple(results), stopped=_disagreement(results))


def _asked(
    pool: ThreadPoolExecutor,
    embedders: Embedders,
    group: Sequence[Sample],
    *,
    concurrency: int,
    least: float,
    before_request: Callable[[], None],
    meanwhile: Callable[[WaitReason | None], None],
    answered: Callable[[ProbeResult], None],
    took: Callable[[Usage], None],
    late: LateProbes | None,
    agreed: bool,
) -> list[ProbeResult]:
    asked: dict[Future[ProbeResult], Sample] = {}

    def look() -> None:
        waited_for = [sample for future, sample in asked.items() if not future.done()]
        seconds = min((embedders.silent_for(s.tenant, s.tokens) for s in waited_for), default=0.0)
        meanwhile(keys_must_wait(seconds) if seconds > 0.0 else None)

    running: set[Future[ProbeResult]] = set()
    try:
        for sample in group:
            if len(running) >= concurrency:
                # What waits for a thread would be sent whatever happens meanwhile.
                running = wait_for_one(running, meanwhile=look)
            before_request()
            future = pool.submit(_probe_tenant, embedders, sample, least)
            asked[future] = sample
            running.add(future)
        unanswered = set(asked)
        while unanswered := wait_until_quiet(unanswered, quiet=LATE_SECONDS, meanwhile=look):
            came = [future.result() for future in asked if future not in unanswered]
            # What a tenant's own endpoint says is of that tenant alone.
            own = all(embedders.own(asked[future].tenant) for future in unanswered)
            agrees = agreed or own or any(each.cosines and each.agrees for each in came)
            if late is not None and agrees:
                break
        for future in unanswered:
            assert late is not None
            sample = asked.pop(future)
            late.wait_for(LateProbe(tenant=sample.tenant, tokens=sample.tokens, answer=future))
    except BaseException:
        embedders.stop()
        wait_for_all(asked)
        raise
    finally:
        for future in asked:
            if future.done() and future.exception() is None:
                answered(future.result())
                took(future.result().usage)
    return [future.result() for future in asked]


def _probe_tenant(embedders: Embedders, sample: Sample, least: float) -> ProbeResult:
    try:
        with embedders.lend(sample.tenant) as embedder:
            answer = embed_isolating(embedder, sample.texts, comparing=True)
    except KeyRefused as error:
        return ProbeResult(tenant=sample.tenant, least=least, failure=error)
    pairs = [
        (stored, fresh)
        for stored, fresh in zip(sample.stored, answer.outcomes, strict=True)
        if fresh is not None and not isinstance(fresh, InputRejected)
    ]
    cosines = [cosine(stored, fresh) for stored, fresh in pairs]
    failure = answer.failure
    if sample.lengths_matter and (other := _other_lengths(pairs)) and min(cosines) >= least:
        failure, cosines = UntrustworthyResponse(other), []
    return ProbeResult(
        tenant=sample.tenant,
        least=least,
        cosines=tuple(cosines),
        failure=failure,
        usage=answer.usage,
        endpoint=embedder.endpoint,
        heard=dict(embedder.heard),
        own=embedders.own(sample.tenant),
    )


def _other_lengths(pairs: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> str | None:
    """Why vectors of the same direction as the stored ones are none to write, or None."""
    for stored, fresh in pairs:
        was, now = float(np.linalg.norm(stored)), float(np.linalg.norm(fresh))
        if abs(now - was) > LENGTH_TOLERANCE * was:
            return (
                f"its vectors are of another length than those stored ({now:.3g}, stored"
                f" {was:.3g}), which the table's `metric` sees; correct `metric` if searches go by"
                " cosine, or have the endpoint, or a trigger, make them as long"
            )
    return None


def _disagreement(results: Sequence[ProbeResult]) -> str | None:
    """Why the probe refuses the repair, with the numbers, or None."""
    against = [result for result in results if not result.agrees and not result.own]
    if not against:
        return _silence(results)
    # What is found of the first is as a rule what is found of all.
    told = next((one for one in against if one.better), against[0])
    others = [one for one in against if one is not told]
    numbers = [f"{tenant_words(told.tenant)}: {told.numbers}"]
    numbers += [
        f"{tenant_words(one.tenant)}: {one.first_cosines}" for one in others[: TENANTS_SHOWN - 1]
    ]
    if len(against) > TENANTS_SHOWN:
        numbers.append(plural(len(against) - TENANTS_SHOWN, "more tenant"))
    return (
        "the probe refused: healthy rows, embedded again, have a cosine under"
        f" {against[0].least} with what is stored ({'; '.join(numbers)}), so the model or the"
        " text expression is not the one they were embedded with; correct [provider] model or"
        " `text` (in [repair], probe_min_cosine says"
        f" what is near enough, and probe = 0 switches the probe off){_of_two_models(against)}"
    )


def _of_two_models(against: Sequence[ProbeResult]) -> str:
    """The way out where some rows agree and others are far off, as in a migration half done."""
    mixed = [
        result.tenant
        for result in against
        if max(result.cosines) >= result.least and min(result.cosines) < FAR
    ]
    if not mixed:
        return ""
    return (
        f". Some rows of {tenant_words(mixed[0])} agree, and others are far off: to embed again all"
        " those that are, and no others, run --canary --remediate with --tenant and --table, and"
        " with `sample` in [canary] no smaller than the tenant's rows: the canary tells each apart"
    )


def _silence(results: Sequence[ProbeResult]) -> str | None:
    """Why nothing is written where not one probe was answered, or None.

    A refused key says nothing of the model, nor does a tenant's own endpoint of anybody else's;
    tenants without healthy rows rely on another's probe.
    """
    if any(result.cosines for result in results):
        return None
    silent = [
        result
        for result in results
        if not (result.own or isinstance(result.failure, (KeyRefused, ModelUnavailable)))
    ]
    # The last has seen what all tries came to.
    return silent[-1].unanswered if silent else None

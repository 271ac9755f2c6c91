"""Embeds the canary's samples with each tenant's own key, within the run's caps.

Reads keys and asks the provider; touches no row.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from checks.awake import wait_for_all
from checks.canary.sampler import Price, SampleAnswer
from checks.database.connection import connect
from checks.wording import dollars
from remediation.provider.bisection import embed_isolating
from remediation.provider.embedders import Embedders
from remediation.provider.errors import InputRejected, ProviderError
from remediation.provider.keys import MissingKey
from remediation.provider.tokens import TokenCounter, token_counter
from remediation.provider.usage import NOTHING, Usage
from remediation.run.preflight import (
    endpoint_of,
    key_ring,
    known_tenants,
    provider_at,
    rate_limits,
)
from remediation.selection.preparation import sendable
from remediation.throttling.budget import budget_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from checks.canary.sampler import TenantTexts
    from checks.database.connection import ConnectionTarget
    from checks.examination.examination import Examination
    from checks.settings.integrity_toml import Settings
    from checks.targets.target import Target
    from remediation.provider.endpoint import Endpoint
    from remediation.provider.keys import KeyRing
    from remediation.provider.protocol import EmbeddingProvider
    from remediation.provider.rate_limits import RateLimits
    from remediation.provider.retry import RetryPolicy
    from remediation.throttling.budget import Budget

DRY_RUN = "a dry run calls no provider, so drift was not looked for"


@dataclass(frozen=True, kw_only=True, slots=True)
class _Request:
    """The texts of one request, and their positions among their tenant's."""

    positions: tuple[int, ...]
    texts: tuple[str, ...] = field(repr=False)
    tokens: int


@dataclass(kw_only=True)
class CanaryEmbedder:
    """Embeds samples; one per run. Its usage counts against the run's `budget`."""

    settings: Settings
    environment: Mapping[str, str] = field(repr=False)
    keys: KeyRing
    limits: RateLimits
    budget: Budget
    dry_run: bool = False
    retry: RetryPolicy | None = None
    provider_at: Callable[[Endpoint], EmbeddingProvider] = provider_at
    """Opens the provider of an endpoint."""
    took: Usage = NOTHING
    """What its requests took so far."""

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._embedders: dict[str, Embedders] = {}
        self._counters: dict[str, TokenCounter] = {}

    def price(self, texts: Iterable[TenantTexts]) -> Price:
        """What embedding these would take; a tenant without a key costs nothing. Keeps no text."""
        requests = tokens = 0
        for one in texts:
            parts = self._requests(one)
            if isinstance(self.keys.find(one.tenant), MissingKey):
                continue
            requests += len(parts)
            tokens += sum(part.tokens for part in parts)
        counted = {counter.description for counter in self._counters.values()}
        return Price(
            requests=requests,
            tokens=tokens,
            dollars=self.budget.dollars(tokens),
            counted="; ".join(sorted(counted)) or "no text",
            refused=None if self.budget.affords(tokens) else self._too_dear(tokens),
            nothing=DRY_RUN if self.dry_run else None,
        )

    def _too_dear(self, tokens: int) -> str:
        return (
            f"the canary would cost {dollars(self.budget.dollars(tokens))}, with"
            f" {dollars(self.budget.spent)} spent already, more than the cap of"
            f" {dollars(self.budget.max_cost)} (--max-cost); nothing was asked: raise the cap, or"
            " lower `sample` in [canary]"
        )

    def embed(self, texts: Sequence[TenantTexts]) -> list[SampleAnswer]:
        """Every tenant's texts with its own key, `concurrency` requests at a time."""
        works = [(one, self._embedders_for(one.target), self._requests(one)) for one in texts]
        reserved = sum(request.tokens for _, _, requests in works for request in requests)
        self.budget.reserve(rows=0, tokens=reserved)
        asked: list[Future[_Taken]] = []
        answers = []
        try:
            with ThreadPoolExecutor(
                self.settings.provider.concurrency, thread_name_prefix="canary"
            ) as pool:
                try:
                    asked.extend(pool.submit(self._ask, work) for work in works)
                    for future in asked:
                        wait_for_all([future])
                        answers.append(future.result().answer)
                except BaseException:
                    self._stop.set()
                    for future in asked:
                        future.cancel()
                    wait_for_all(asked)
                    raise
        finally:
            # An interrupt does not undo what others were asked meanwhile.
            ended = [one for one in asked if not one.cancelled() and one.exception() is None]
            took = sum((one.result().usage for one in ended), NOTHING)
            self.took += took
            self.budget.settle(reserved=reserved, took=took)
        return answers

    def _ask(self, work: tuple[TenantTexts, Embedders, Sequence[_Request]]) -> _Taken:
        one, embedders, requests = work
        vectors: list[NDArray[np.float32] | None] = [None] * len(one.texts)
        usage = NOTHING
        failure: ProviderError | None = None
        for request in requests:
            try:
                with embedders.lend(one.tenant) as embedder:
                    answer = embed_isolating(embedder, request.texts, comparing=True)
            except ProviderError as error:
                failure = error
                break
            usage += answer.usage
            for position, outcome in zip(request.positions, answer.outcomes, strict=True):
                vectors[position] = None if isinstance(outcome, InputRejected) else outcome
            if answer.failure is not None:
                failure = answer.failure
                break
        answer_of_all = (
            SampleAnswer(vectors=tuple(vectors))
            if failure is None
            else SampleAnswer(unseen=failure.reason)
        )
        return _Taken(answer=answer_of_all, usage=usage)

    def _requests(self, one: TenantTexts) -> list[_Request]:
        """The requests for a tenant's texts, as a repair would send them within its limits."""
        counter = self._counter(one.target.model)
        provider = self.settings.provider
        requests: list[_Request] = []
        waiting: list[tuple[int, str, int]] = []

        def leave() -> None:
            if waiting:
                positions, texts, tokens = zip(*waiting, strict=True)
                requests.append(_Request(positions=positions, texts=texts, tokens=sum(tokens)))
                waiting.clear()

        for position, text in enumerate(one.texts):
            sent = sendable(text, provider, counter)
            if sent is None:
                continue
            tokens = counter.count(sent)
            if len(waiting) >= provider.batch_size or (
                sum(count for *_, count in waiting) + tokens > provider.max_tokens_per_request
            ):
                leave()
            waiting.append((position, sent, tokens))
        leave()
        return requests

    def _counter(self, model: str) -> TokenCounter:
        if model not in self._counters:
            self._counters[model] = token_counter(model, self.environment)
        return self._counters[model]

    def _embedders_for(self, target: Target) -> Embedders:
        if target.name not in self._embedders:
            self._embedders[target.name] = Embedders(
                endpoint_of(self.settings, self.environment, target),
                self.keys,
                provider_at=self.provider_at,
                stop=self._stop,
                limits=self.limits,
                counter=self._counter(target.model),
                models=target.declared.tenant_models,
                retry=self.retry,
            )
        return self._embedders[target.name]

    def close(self) -> None:
        """Close every connection to the provider."""
        for embedders in self._embedders.values():
            embedders.close()


@dataclass(frozen=True, kw_only=True, slots=True)
class _Taken:
    answer: SampleAnswer
    usage: Usage


@contextmanager
def open_embedder(
    *,
    settings: Settings,
    environment: Mapping[str, str],
    examination: Examination,
    place: ConnectionTarget,
    retry: RetryPolicy | None = None,
) -> Iterator[CanaryEmbedder]:
    """The embedder of a run that repairs nothing; `[keys] sql` runs where the checks read.

    Raises `CannotExamineError` where the tenants, who may share a variable's name, cannot be known,
    and `RepairRefusedError` for a malformed base URL.
    """
    with connect(place) as connection:
        known = known_tenants(connection, place, settings, examination)
        embedder = CanaryEmbedder(
            settings=settings,
            environment=environment,
            keys=key_ring(connection, place, settings, environment, known),
            limits=rate_limits(settings),
            budget=budget_of(settings),
            retry=retry,
        )
        try:
            yield embedder
        finally:
            embedder.close()

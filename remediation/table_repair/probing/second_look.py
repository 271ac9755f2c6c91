"""Looks again where the probe disagrees: more rows, the same text twice, common other texts.

The stored vectors then say whether the texts are the same, nearly the same, or of another
expression. Bounded, under the cap of dollars; writes nothing.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import psycopg

from checks.awake import wait_for_all
from checks.canary.sampler import cosine
from checks.discovery.entries import toml
from checks.errors import CannotExamineError
from remediation.provider.bisection import embed_isolating
from remediation.provider.errors import InputRejected, KeyRefused
from remediation.provider.usage import NOTHING, Usage
from remediation.selection.healthy_rows import healthy_rows
from remediation.selection.preparation import sendable
from remediation.table_repair.probing.probe import FAR, TENANTS_LOOKED_AT
from remediation.table_repair.probing.text_variants import BetterText, TextVariant, text_variants

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from checks.database.connection import Connection
    from checks.settings.integrity_toml import Provider
    from remediation.provider.bisection import Isolated
    from remediation.provider.embedders import Embedders
    from remediation.provider.tokens import TokenCounter
    from remediation.selection.healthy_rows import HealthyRow
    from remediation.selection.row_reader import RowReader
    from remediation.table_repair.probing.probe import ProbeResult
    from remediation.table_repair.probing.samples import Sample
    from remediation.throttling.budget import Budget

ROWS = 12
"""Healthy rows of a tenant, most of them short: there another text differs most, and noise or
another way to compute no more than elsewhere."""
COMPARED = 5
"""Rows that a variant is tried on: those that disagree most, and one that agrees, if any."""
VARIANT_TEXTS = 200
"""Texts of variants that are sent, at most, for one tenant of a table."""

NOISE_FACTOR = 3.0
"""A model's noise explains this multiple of what two answers to the same texts differ by."""
LEAST_WITH_NOISE = 0.999
"""No noise explains less. Two answers of OpenAI's differ by 1e-5 to 1e-4."""
LEAST_UNEXPLAINED = 0.9999
"""A server that computes in another way than it did differs by less, and so may the separator of a
long text: which of the two, only the variants tell."""
BETTER = 5.0
"""By what factor a variant's distance must be smaller for it to be the better text."""


def most_of_second_look(probed: Sequence[Sample], provider: Provider) -> tuple[int, int]:
    """The requests and about the tokens that it takes at most, for the tenants probed."""
    texts = 2 * ROWS, VARIANT_TEXTS
    looked_at = sorted(probed, key=lambda sample: sample.tokens)[-TENANTS_LOOKED_AT:]
    requests = sum(-(-count // provider.batch_size) for count in (ROWS, ROWS, VARIANT_TEXTS))
    tokens = sum(sum(texts) * -(-sample.tokens // len(sample.texts)) for sample in looked_at)
    return len(looked_at) * requests, tokens


@dataclass(kw_only=True)
class SecondLook:
    """At one table. Create, then ask `of` each result that disagrees."""

    connection: Connection
    reader: RowReader
    embedders: Embedders
    budget: Budget
    provider: Provider
    counter: TokenCounter
    before_request: Callable[[], None]
    meanwhile: Callable[[], None]
    spent: Callable[[str | None, Usage], None]
    """Told what each request took, as it comes back."""
    _usage: Usage = field(default=NOTHING, init=False)

    def of(self, result: ProbeResult) -> ProbeResult:
        """The result by more rows, with what else was found out in `found`."""
        self._usage = NOTHING
        rows = self._rows(result.tenant)
        texts = [text for _, text in rows]
        first, second = self.embed(result.tenant, texts), self.embed(result.tenant, texts[::-1])
        answered = [
            (row, text, one, cosine(one, other))
            for (row, text), one, other in zip(rows, first, second[::-1], strict=True)
            if one is not None and other is not None
        ]
        if not answered:
            return replace(result, usage=result.usage + self._usage)
        cosines = [cosine(row.vector, one) for row, _, one, _ in answered]
        noise = max(0.0, *(1.0 - same for *_, same in answered))
        lowest = min(*cosines, *result.cosines)
        explained = max(LEAST_WITH_NOISE, 1.0 - NOISE_FACTOR * noise)
        found = _spread(cosines, result.least, noise)
        least, better = result.least, None
        if lowest >= explained:
            least = min(least, explained)
        else:
            compared = sorted(zip(cosines, answered, strict=True), key=lambda each: each[0])
            ranked = [(row, text, near) for near, (row, text, *_) in compared]
            better = self._better(result.tenant, ranked)
            found += _words(better, min(cosines))
            if better is None and lowest >= LEAST_UNEXPLAINED:
                least = min(least, LEAST_UNEXPLAINED)
        return replace(
            result,
            cosines=(*result.cosines, *cosines[len(result.cosines) :]),
            least=least,
            found=found,
            better=better,
            usage=result.usage + self._usage,
        )

    def healthy(self, tenant: str | None, rows: int) -> list[HealthyRow]:
        """About so many healthy rows, those that tell most of their texts first."""
        return list(healthy_rows(self.connection, self.reader, tenants=[tenant], per_tenant=rows))

    def _rows(self, tenant: str | None) -> list[tuple[HealthyRow, str]]:
        """Healthy rows with their texts as they are sent, those of the probe first."""
        return [
            (row, text)
            for row in self.healthy(tenant, ROWS)
            if (text := sendable(row.text, self.provider, self.counter)) is not None
        ]

    def _better(
        self, tenant: str | None, ranked: Sequence[tuple[HealthyRow, str, float]]
    ) -> BetterText | None:
        """The variant of the text that agrees decidedly better with the same rows."""
        # A short one that agrees tells a variant that changes what is right.
        agreeing = [each for each in ranked[COMPARED - 1 :] if each[2] >= LEAST_UNEXPLAINED]
        agreeing.sort(key=lambda each: len(each[1]))
        compared = [*ranked[: COMPARED - 1], *(agreeing or ranked[COMPARED - 1 :][-1:])[:1]]
        tried = self._texts_of_variants(compared)
        wanted = list(dict.fromkeys(t for _, texts in tried for t in texts))[:VARIANT_TEXTS]
        vectors = dict(zip(wanted, self.embed(tenant, wanted), strict=True))
        nears_of: list[tuple[TextVariant, list[float]]] = []
        for variant, texts in tried:
            nears = []
            for (row, sent, near), text in zip(compared, texts, strict=True):
                fresh = vectors.get(text)
                same = near if text == sent else 0.0
                nears.append(same if fresh is None else cosine(row.vector, fresh))
            nears_of.append((variant, nears))
        own = [near for *_, near in compared]
        kept = _without_stray([own, *(nears for _, nears in nears_of)])
        best: BetterText | None = None
        for variant, nears in nears_of:
            low, high = min(nears[i] for i in kept), max(nears[i] for i in kept)
            if best is None or low > best.low:
                best = BetterText(variant=variant, low=low, high=high)
        if best is None or (1.0 - best.low) * BETTER > 1.0 - min(own[i] for i in kept):
            return None
        return best

    def _texts_of_variants(
        self, compared: Sequence[tuple[HealthyRow, str, float]]
    ) -> list[tuple[TextVariant, list[str]]]:
        """Each variant that changes the text of a compared row, with all their texts."""
        keys = [row.key for row, *_ in compared]
        sent = [text for _, text, _ in compared]
        tried: list[tuple[TextVariant, list[str]]] = []
        for variant in text_variants(self.reader.target):
            try:
                found = self.reader.texts_as(self.connection, keys, variant.expression)
            except (psycopg.Error, CannotExamineError):
                continue  # such as a function that the type of the expression does not have
            texts = [sendable(text or "", self.provider, self.counter) or "" for text in found]
            if all(texts) and texts != sent and all(texts != other for _, other in tried):
                tried.append((variant, texts))
        return tried

    def embed(self, tenant: str | None, texts: Sequence[str]) -> list[NDArray[np.float32] | None]:
        """A vector for each text, or None where there is no answer or no money left."""
        vectors: list[NDArray[np.float32] | None] = []
        with ThreadPoolExecutor(1, thread_name_prefix="probe") as pool:
            while len(vectors) < len(texts):
                chunk = self._chunk(texts[len(vectors) :])
                tokens = sum(map(self.counter.count, chunk))
                if not self.budget.affords(tokens):
                    return vectors + [None] * (len(texts) - len(vectors))
                self.before_request()
                self.budget.reserve(rows=0, tokens=tokens)
                asked = pool.submit(self._ask, tenant, chunk)
                try:
                    wait_for_all([asked], meanwhile=self.meanwhile)
                except BaseException:
                    self.embedders.stop()
                    wait_for_all([asked])
                    self._took(tenant, asked.result())
                    raise
                answer = asked.result()
                took = self._took(tenant, answer)
                self.budget.settle(reserved=tokens, took=took)
                outcomes = [None] * len(chunk) if answer is None else answer.outcomes
                vectors += [None if isinstance(v, InputRejected) else v for v in outcomes]
                if answer is None or answer.failure is not None:
                    return vectors + [None] * (len(texts) - len(vectors))
        return vectors

    def _took(self, tenant: str | None, answer: Isolated | None) -> Usage:
        usage = NOTHING if answer is None else answer.usage
        self._usage += usage
        self.spent(tenant, usage)
        return usage

    def _ask(self, tenant: str | None, texts: Sequence[str]) -> Isolated | None:
        try:
            with self.embedders.lend(tenant) as embedder:
                return embed_isolating(embedder, texts, comparing=True)
        except KeyRefused:
            return None

    def _chunk(self, texts: Sequence[str]) -> list[str]:
        """The texts of the next request."""
        chunk, tokens = [texts[0]], self.counter.count(texts[0])
        for text in texts[1 : self.provider.batch_size]:
            tokens += self.counter.count(text)
            if tokens > self.provider.max_tokens_per_request:
                break
            chunk.append(text)
        return chunk


def _without_stray(nears_by_text: Sequence[Sequence[float]]) -> list[int]:
    """The positions of the rows that tell: not of one alone that is far off by every text."""
    best = [max(nears) for nears in zip(*nears_by_text, strict=True)]
    told = [position for position, near in enumerate(best) if near >= FAR]
    return told if len(told) == len(best) - 1 >= 2 else list(range(len(best)))


def _words(better: BetterText | None, own: float) -> str:
    if better is None:
        return "; no common variant of `text` agrees better"
    return (
        f"; another text agrees better ({better.variant.words}: {better.low:.6f} to"
        f" {better.high:.6f}, yours from {own:.6f}): text = {toml(better.variant.expression)}"
    )


def _spread(cosines: Sequence[float], least: float, noise: float) -> str:
    ordered = sorted(cosines)
    agree = sum(near >= least for near in cosines)
    return (
        f"of {len(cosines)} healthy rows {agree} agree, cosines {ordered[0]:.6f} to"
        f" {ordered[-1]:.6f}, median {ordered[len(ordered) // 2]:.6f}; the same text asked twice"
        f" differs by {noise:.1e}"
    )

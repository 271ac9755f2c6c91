"""Takes a share of the rows by chance, and says what it tells of all of them.

Builds SQL and computes; runs nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING

from psycopg import sql

from checks.findings.acceptance import today_in_utc
from checks.row_checks.row_relation import has_place

if TYPE_CHECKING:
    from checks.targets.target import Target

RANGE = 2**30
"""Hashes are cut to so many values, which tell shares down to a ten-millionth of a percent."""
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True, slots=True)
class Sample:
    """Which rows are taken: of each run with the same seed the same ones, whatever else is read."""

    percent: Decimal
    seed: int

    @property
    def words(self) -> str:
        return f"{self.percent.normalize():f} %"

    def takes(self, target: Target) -> sql.Composed:
        """SQL over the columns of `rows_of`, true of the rows that are taken.

        By a hash of where a row stands, else of its key: `random()` would be asked anew wherever
        the condition is used, and would keep PostgreSQL from scanning in parallel.
        """
        if has_place(target):
            hashed = sql.SQL("pg_catalog.hashtidextended(place, {})")
        elif target.key_names and not target.repeats:
            hashed = sql.SQL("pg_catalog.hashtextextended(identity, {})")
        else:
            # Of the pieces that share a key, each by itself, as far as their texts are known.
            hashed = sql.SQL("pg_catalog.hashtextextended(pg_catalog.concat(identity, text), {})")
        limit = math.ceil(self.percent * RANGE / 100)
        return sql.SQL("({} & {}::bigint) < {}").format(
            hashed.format(sql.Literal(self.seed)), sql.Literal(RANGE - 1), sql.Literal(limit)
        )

    def seen_from(self) -> int:
        """How many rows must share a vector, so that two of them are mostly in the sample.

        Of m rows Poisson(m * share) are taken, and of that with a mean of 4.744 fewer than two are
        taken in one case of twenty: exp(-4.744) * (1 + 4.744) = 0.05.
        """
        return math.ceil(4.744 * 100 / float(self.percent))


def sample_of(percent: Decimal | None) -> Sample | None:
    """The sample of this day, by UTC: the same rows until midnight, others tomorrow."""
    if percent is None or percent == 100:
        return None
    return Sample(percent=percent, seed=today_in_utc().toordinal())


def parse_percent(text: str) -> Decimal:
    """A percentage above 0, 100 at most. Raises ValueError in words."""
    try:
        percent = Decimal(text.strip().removesuffix("%").strip())
    except InvalidOperation:
        percent = Decimal("NaN")
    if not (percent.is_finite() and 0 < percent <= 100):
        raise ValueError(f"expected a percentage above 0, 100 at most, such as 1, found {text!r}")
    return percent


def failing_between(failing: int, sampled: int, rows: int) -> tuple[int, int]:
    """The 95 % interval of how many of all `rows` fail, when `failing` of `sampled` ones do.

    Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the
    binomial", Biometrika 26 (1934): never too narrow, also where hardly any row fails. Cut to what
    the sample itself proves, so that it is exact where every row was taken.
    """
    from scipy.special import betaincinv  # late: it takes a while

    tail = (1 - CONFIDENCE) / 2
    sound = sampled - failing
    low = float(betaincinv(failing, sound + 1, tail)) if failing else 0.0
    high = float(betaincinv(failing + 1, sound, 1 - tail)) if sound else 1.0
    return max(failing, math.floor(low * rows)), min(rows - sound, math.ceil(high * rows))


def bound_words(*, failing: int, sampled: int, rows: int, sample: Sample, of_sets: bool) -> str:
    """What a sample tells of all rows, in words; `of_sets` where rows fail only together."""
    read = f"sample of {sample.words}: {sampled:,} of {rows:,} rows were read"
    if of_sets:
        told = f"at least {failing:,} rows fail" if failing else "none of these fails"
        return (
            f"{read} and compared with each other alone: {told}; a vector that stands in fewer than"
            f" {sample.seen_from():,} rows may go unseen"
        )
    low, high = failing_between(failing, sampled, rows)
    if not failing:
        return f"{read} and none fails: at most {high:,} of all do, with 95 % confidence"
    return f"{read}: {low:,} to {high:,} of all fail, with 95 % confidence"

"""Chooses the index that an entry declares: over the whole vectors, for a known metric.

Decides by catalog facts alone; the check `index` judges whether the index is sound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from checks.database.vectors.ann_indexes import key_of
from checks.discovery.entries import Line
from checks.settings.names import display_identifier

if TYPE_CHECKING:
    from collections.abc import Sequence

    from checks.database.catalog import Column
    from checks.database.vectors.ann_indexes import AnnIndex

METRICS = (("_cosine_ops", "cosine"), ("_l2_ops", "l2"), ("_ip_ops", "inner_product"))


def index_lines(indexes: Sequence[AnnIndex], embedding: Column) -> list[Line]:
    """`index` and `metric` by the best of a table's indexes, or why there are none."""
    known = [
        (index, metric)
        # A valid index comes before an invalid one, one over all rows before a partial one.
        for index in sorted(indexes, key=lambda index: (not index.valid, index.predicate or ""))
        if key_of(index, embedding) is not None
        for suffix, metric in METRICS
        if index.operator_class.endswith(suffix)
    ]
    if not known:
        parts = [f"{index.name} on {index.expression}" for index in indexes if index.expression]
        reason = (
            f"none was found over the whole vectors, but {', '.join(parts)}"
            if parts
            else "none was found; a search reads every row"
        )
        return [Line(key="index", value="hnsw", reason=reason, stands=False)]
    index, metric = known[0]
    name = display_identifier(index.name)
    return [
        Line(key="index", value=index.method, reason=f"the method of {name}"),
        Line(key="metric", value=metric, reason=f"its operator class is {index.operator_class}"),
    ]

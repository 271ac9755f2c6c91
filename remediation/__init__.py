"""Makes failing rows whole. The only package that writes to a user's table.

`remediation.backfill(url, table=…)` is for migration scripts; it is imported when it is first used,
as it needs all that stands below it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remediation.migration import BackfillError, BackfillResult, backfill

__all__ = ["BackfillError", "BackfillResult", "backfill"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from remediation import migration

    return getattr(migration, name)

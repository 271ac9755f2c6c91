"""Gathers the built-in row checks from the modules of `rules`; nothing else needs to know them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from checks.row_checks import rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from checks.row_checks.row_check import RowCheck


def _gathered() -> Iterator[RowCheck]:
    for name in rules.ROW_CHECK_NAMES:
        yield import_module(f"{rules.__name__}.{name}").CHECK


BUILT_IN = tuple(sorted(_gathered(), key=lambda check: check.order))

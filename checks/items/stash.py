"""Names the stash keys of a run, and the fixtures that are parametrised from the stash."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from checks.settings.check_names import TABLE_CHECKS

if TYPE_CHECKING:
    from checks.examination.run_context import RunContext
    from checks.items.cases import Case
    from checks.settings.integrity_toml import Settings

FIXTURES = dict(zip(TABLE_CHECKS, ("table_check", "tenant_check", "index_check"), strict=True))
"""The fixtures of the checks of a whole table."""

RUN_CONTEXT: pytest.StashKey[RunContext] = pytest.StashKey()
CASES: pytest.StashKey[dict[str, list[Case]]] = pytest.StashKey()
"""By the name of the fixture that is parametrised with them."""
SETTINGS: pytest.StashKey[Settings] = pytest.StashKey()
UNEXAMINED = pytest.StashKey[str]()
"""Why nothing could be examined."""

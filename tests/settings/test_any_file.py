"""Whatever a settings file holds, its faults are told, and nothing else is raised."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from checks.row_checks.rules import ROW_CHECK_NAMES
from checks.settings.faults import fault_lines, faults_in
from checks.settings.integrity_toml import (
    Canary,
    Database,
    Keys,
    Provider,
    RepairLimits,
    Settings,
)
from checks.settings.table_checks import Accepted, CheckSettings, CustomCheck
from checks.settings.tables import Source, Store, Table

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.dates()
    | st.text(max_size=5)
    | st.sampled_from(["a", "tenant_*.docs", "1h", "schema", "{tenant}", "http://["])
)
ANYTHING = SCALARS | st.lists(SCALARS, max_size=2) | st.dictionaries(st.text(), SCALARS, max_size=2)


def _contents(model: type[BaseModel], **below: st.SearchStrategy[object]) -> Any:
    """Sections with the model's keys and others, their values right and wrong."""
    keys = {key: ANYTHING | below.get(key, ANYTHING) for key in [*model.model_fields, "unknown"]}
    return st.fixed_dictionaries({}, optional=keys)


def _some(entries: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.lists(entries, min_size=1, max_size=3)


CHECK = _contents(CheckSettings, accept=_some(_contents(Accepted)))
TABLES = _contents(
    Table,
    store=_contents(Store),
    source=_contents(Source),
    custom=_some(_contents(CustomCheck)),
    checks=st.dictionaries(st.sampled_from([*ROW_CHECK_NAMES, "a", "*"]), CHECK, max_size=2),
)
FILES = _contents(
    Settings,
    database=_contents(Database),
    provider=_contents(Provider),
    keys=_contents(Keys),
    repair=_contents(RepairLimits),
    canary=_contents(Canary),
    tables=_some(TABLES),
)


@given(FILES)
@hypothesis_settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_whatever_a_file_holds_its_faults_can_be_told(content: dict[str, Any]) -> None:
    try:
        assert Settings.model_validate(content).tables
    except ValidationError as error:
        faults = fault_lines(faults_in(error, root=Settings), content=content, file_name="f.toml")
        assert faults
        for fault in faults:
            assert fault.isprintable()
            assert re.match(r"f\.toml: \S.*: \S", fault), fault

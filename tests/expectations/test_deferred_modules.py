"""Great Expectations is imported without what no suite of ours uses, and all of it still works."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from checks.expectations.deferred_modules import StandIn, deferred

REPOSITORY = Path(__file__).resolve().parents[2]
LOADED = """
import sys
from checks.expectations import engine
engine.load()
assert not {"scipy.stats", "altair"} & sys.modules.keys()
from great_expectations.expectations.core import expect_column_kl_divergence_to_be_less_than as kl
assert kl.stats.entropy([0.5, 0.5], base=2) == 1.0
assert kl.alt.Chart.__name__ == "Chart"
from scipy import stats
assert stats.entropy is kl.stats.entropy
"""


def test_a_module_is_loaded_when_it_is_used_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "heavy_module.py").write_text("weight = 3\n")
    (tmp_path / "user_module.py").write_text("import heavy_module\n")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        with deferred("heavy_module", "no_such_module", "no_such_package.module", "sys"):
            user = importlib.import_module("user_module")
        assert "heavy_module" not in sys.modules
        assert isinstance(user.heavy_module, StandIn)
        assert user.heavy_module.weight == 3
        assert not isinstance(sys.modules["heavy_module"], StandIn)
    finally:
        for name in ("user_module", "heavy_module"):
            sys.modules.pop(name, None)


@pytest.mark.thorough
def test_great_expectations_finds_what_was_deferred() -> None:
    subprocess.run([sys.executable, "-c", LOADED], cwd=REPOSITORY, check=True)

"""Names the pytest plugins of the packages, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from embedding_integrity.beside import join

if TYPE_CHECKING:
    import pytest

PLUGINS = (
    "checks.plugins.tracebacks",
    "checks.plugins.interrupts",
    "checks.plugin",
    "checks.plugins.canary",
    "checks.plugins.great_expectations",
    "remediation.options",
    "remediation.plugin",
    "remediation.rollback_plugin",
    "reports.plugin",
    "reports.outputs_plugin",
    "reports.terminal_plugin",
    "demo.plugin",
)


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    join(PLUGINS, Path(__file__).resolve().parent, parser, pluginmanager)

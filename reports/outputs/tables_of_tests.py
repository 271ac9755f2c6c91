"""Adds to pytest-html's table which check of which table and tenant a row is, with its counts.

pytest-html puts cells into its page as they are: every value is escaped here.
"""

from __future__ import annotations

import pytest
from markupsafe import escape

from checks.redaction import for_terminal

COLUMNS = {"table": "Table", "tenant": "Tenant", "failing": "Failing"}
POSITION = 2
"""After pytest-html's own columns for the result and the test."""
LENGTH = 200


@pytest.hookimpl(optionalhook=True)
def pytest_html_results_table_header(cells: list[str]) -> None:
    cells[POSITION:POSITION] = [f"<th>{title}</th>" for title in COLUMNS.values()]


@pytest.hookimpl(optionalhook=True)
def pytest_html_results_table_row(report: pytest.TestReport, cells: list[str]) -> None:
    told = dict(reversed(report.user_properties))
    if "findings" in told:
        # The case stands for many tenants, of which the properties begin with the worst.
        told |= {"tenant": f"{told['findings']} findings", "failing": told["failing_in_all"]}
    cells[POSITION:POSITION] = [
        f"<td>{escape(for_terminal(str(told.get(name, '')))[:LENGTH])}</td>" for name in COLUMNS
    ]

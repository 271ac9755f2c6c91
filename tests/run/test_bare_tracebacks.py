"""An error that nobody foresaw shows where it was raised, and nothing that stood in a frame."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from tests.drivers.runs import MISSING, TENANTS, fill

if TYPE_CHECKING:
    from tests.drivers.runs import Site

pytest_plugins = ("pytester",)

THOROUGH = pytest.mark.thorough

BOMB = '''
"""Raises in the place of a function, with the arguments of the one it replaces in its frame."""

import functools
import importlib
import os
import traceback

import pytest

CAPTURED = "captured.txt"


def explode(module, path):
    owner = importlib.import_module(module)
    *way, name = path.split(".")
    for step in way:
        owner = getattr(owner, step)

    def bomb(*arguments, **named):
        raise RuntimeError("boom")

    setattr(owner, name, staticmethod(bomb) if way and name == "explode" else bomb)


@pytest.hookimpl(trylast=True)
def pytest_configure(config):
    explode(*os.environ["BOMB"].split(":"))


def _capture(error):
    shown = traceback.TracebackException.from_exception(error, capture_locals=True)
    with open(CAPTURED, "a") as file:
        file.writelines(shown.format())


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_internalerror(excinfo):
    _capture(excinfo.value)
    return (yield)


def pytest_exception_interact(call):
    _capture(call.excinfo.value)
'''


@pytest.mark.parametrize(
    "step",
    [
        pytest.param("checks.items.collection:first_look", marks=THOROUGH),
        pytest.param("checks.items.collection:judge", marks=THOROUGH),
        pytest.param("remediation.execution:open_repair", marks=THOROUGH),
        pytest.param("remediation.run.repair:plan_table", marks=THOROUGH),
        pytest.param("remediation.provider.keys:KeyRing.find", marks=THOROUGH),
        pytest.param("remediation.table_repair.probing.probe:embed_isolating", marks=THOROUGH),
        pytest.param("remediation.table_repair.flight:embed_isolating", marks=THOROUGH),
        "remediation.provider.embedder:require_as_asked",
        pytest.param(
            "remediation.provider.openai_compatible.embeddings:headers_with", marks=THOROUGH
        ),
        pytest.param("remediation.selection.preparation:unsendable", marks=THOROUGH),
        pytest.param("remediation.provider.embedder:unsendable", marks=THOROUGH),
        pytest.param("remediation.writing.writer:Writer.write", marks=THOROUGH),
        pytest.param("remediation.journal.journal:Journal.replacing", marks=THOROUGH),
        pytest.param("remediation.table_repair.engine:Answers.judge", marks=THOROUGH),
        pytest.param("remediation.table_repair.flight:Flight.take_in", marks=THOROUGH),
        pytest.param("remediation.run.repair:measure_again", marks=THOROUGH),
        pytest.param("reports.outputs.files:write", marks=THOROUGH),
    ],
)
def test_no_frame_with_a_text_or_a_key_is_left_whatever_step_raises(
    provided_site: Site, step: str
) -> None:
    site = provided_site
    fill(site.database, dict.fromkeys(TENANTS, 6), missing=MISSING)
    with psycopg.connect(site.database) as connection:
        bodies = [body for (body,) in connection.execute("SELECT body FROM public.insights")]
    (site.folder / "bomb.py").write_text(BOMB)
    site.monkeypatch.setenv("BOMB", step)
    site.monkeypatch.syspath_prepend(site.folder)
    run = site.run_cold(
        "--remediate", "--showlocals", "--full-trace", "-p", "bomb", "--junitxml=junit.xml"
    )
    assert "boom" in run.output or "RuntimeError" in run.output, run.output
    seen = {str(path): text for path, text in site.everything_written() if path.name != "bomb.py"}
    secrets = [*site.keys.values(), *bodies, "sk-", "text 1 of"]
    for name, content in {"output": run.output, **seen}.items():
        assert not [secret for secret in secrets if secret in content], name

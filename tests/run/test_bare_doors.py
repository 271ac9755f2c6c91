"""What a door or a function that others call raises shows no text, no key and no password."""

from __future__ import annotations

import traceback
from importlib import import_module
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

import remediation
from checks.settings.integrity_toml import load_settings
from embedding_integrity.doors.prevent import main as prevent
from remediation.discover import main as discover
from remediation.distributed.part_repair import PartRepairs
from tests.drivers.repairs import docs, environment, key_of
from tests.servers.provider_server import ProviderServer

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.drivers.workers import Site

TEXT = "document 3 of acme"


class UnforeseenError(Exception):
    """What nobody foresaw."""


def bomb(*_arguments: object, **_named: object) -> None:
    """Has in its frame what the function in whose place it stands was given."""
    raise UnforeseenError


def shown(error: BaseException | None) -> str:
    """All frames of an error and of those behind it, with their locals, but for this file's."""
    lines = []
    while error is not None:
        lines += [str(error), *getattr(error, "__notes__", ())]
        for frame, _ in traceback.walk_tb(error.__traceback__):
            if frame.f_code.co_filename != __file__ or frame.f_code is bomb.__code__:
                lines += [repr(value) for value in frame.f_locals.values()]
        error = error.__cause__ or error.__context__
    return "\n".join(lines)


def backfill(site: Site) -> None:
    remediation.backfill(site.database, table="public.docs")


def discovered(_: Site) -> None:
    discover(["--probe", "--model=any", "--fallback-env=KEY_ACME"])


def prevented(_: Site) -> None:
    prevent([])


def worked(site: Site) -> None:
    settings = load_settings(site.folder / "integrity.toml", row_checks=())
    given = {"DATABASE_URL": site.database, **environment("acme")}
    PartRepairs(settings=settings, environment=given, started_from=site.folder).repair("r", "t", 1)


@pytest.mark.parametrize(
    ("step", "door"),
    [
        ("remediation.provider.embedder:require_as_asked", backfill),
        ("remediation.writing.writer:Writer.write", backfill),
        ("remediation.migration:parse_url", backfill),
        ("checks.discovery.survey:connect", discovered),
        ("remediation.run.text_probe:probe", discovered),
        ("embedding_integrity.doors.prevent:connect", prevented),
        ("remediation.distributed.part_repair:shared_connection", worked),
    ],
)
def test_no_frame_of_ours_leaves_a_door(
    shared_site: Site,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    door: Callable[[Site], None],
) -> None:
    site = shared_site
    monkeypatch.chdir(site.folder)
    for name, value in {"DATABASE_URL": site.database, **environment("acme")}.items():
        monkeypatch.setenv(name, value)
    module, _, path = step.partition(":")
    *way, name = path.split(".")
    owner = import_module(module)
    for each in way:
        owner = getattr(owner, each)
    with docs(site.database, {"acme": (2, 2)}), ProviderServer() as server:
        site.write_settings(server, repair="probe = 3")
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setattr(owner, name, bomb)
        with pytest.raises(UnforeseenError) as raised:
            door(site)
    password = urlsplit(site.database).password or ""
    assert password
    for secret in (password, key_of("acme"), TEXT):
        assert secret not in shown(raised.value)

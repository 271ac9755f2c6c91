"""The page of every kind of incident as a browser takes it: well-formed, accessible, inert."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache

import pytest

from reports.page import html
from reports.values.incident import Incident
from tests.builders.incidents import EVERY_KIND, incident
from tests.drivers.page import Page


@cache
def made(kind: str) -> Incident:
    """An incident of a kind; one of ten thousand tenants takes seconds."""
    return EVERY_KIND[kind]()


@cache
def rendered(kind: str) -> str:
    """Its page, which takes as long."""
    return html.render(made(kind))


@pytest.fixture(params=EVERY_KIND)
def kind(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_json_gives_the_same_incident_back(kind: str) -> None:
    sample = made(kind)
    assert Incident.model_validate_json(sample.model_dump_json()) == sample


def test_every_page_is_well_formed_without_script_and_asks_for_nothing(kind: str) -> None:
    page = Page(rendered(kind))
    assert page.unclosed == []
    assert page.strays == []
    assert not {"script", "img", "link", "iframe", "object", "form"} & set(page.elements)
    names = {name for name, _ in page.attributes}
    assert not {"src", "srcset", "style"} & names
    identifiers = {f"#{value}" for name, value in page.attributes if name == "id"}
    assert {value for name, value in page.attributes if name == "href"} <= identifiers
    assert not [name for name in names if name.startswith("on")]
    policy = next(value for _, value in page.attributes if "default-src" in value)
    assert policy.startswith("default-src 'none'; style-src 'sha256-")


def test_the_style_sheet_is_the_one_that_the_policy_admits() -> None:
    source = html.render(incident())
    style = re.search(r"<style>(.*)</style>", source, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"'sha256-{digest}'" in source
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_every_page_is_accessible_in_structure(kind: str) -> None:
    page = Page(rendered(kind))
    assert ("lang", "en") in page.attributes
    assert page.headings[0] == 1
    assert page.headings.count(1) == 1
    steps = zip(page.headings, page.headings[1:], strict=False)
    assert all(lower - upper <= 1 for upper, lower in steps)
    assert page.elements.count("table") == page.elements.count("caption")
    scopes = [value for name, value in page.attributes if name == "scope"]
    assert len(scopes) == page.elements.count("th")
    identifiers = [value for name, value in page.attributes if name == "id"]
    assert len(identifiers) == len(set(identifiers))


def test_sections_stand_in_the_order_a_reader_asks() -> None:
    source = html.render(incident(dead=("globex",)))
    order = ["verdict", "impact", "timeline", "diagnosis", "done", "verification", "prevention"]
    order.append("evidence")
    assert re.findall(r'<li><a href="#([\w-]+)"', source) == order
    assert re.findall(r'<h2 id="([\w-]+)"', source) == order

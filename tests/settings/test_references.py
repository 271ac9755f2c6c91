"""A variable of the environment that is named where none is filled in is said, not sent."""

from __future__ import annotations

from typing import Any

import pytest

from checks.errors import SettingsError
from checks.settings.integrity_toml import Settings, settings_in
from remediation.provider.endpoint import extra_headers_of

SLIPS = (
    "$GATE",
    "Bearer $gate_key",
    "$(cat gate)",
    "%GATE_KEY%",
    "{GATE_KEY}",
    "{{ gate.key }}",
    "${GATE:-none}",
    "${{ secrets.GATE }}",
    "$env:GATE",
    "${GATE",
    "{tenant}",
)
WRITTEN_OUT = ("$5", "costs 5$", "100%", "%20gate%20", '{"a": "b"}', "a$", "%C3%A9")


def _read(**sections: dict[str, Any]) -> Settings:
    content = {**sections, "tables": [{"name": "docs", "text": "body"}]}
    return settings_in(content, row_checks=(), named="integrity.toml")


@pytest.mark.parametrize("slip", SLIPS)
def test_a_header_names_a_variable_in_one_form_only(slip: str) -> None:
    with pytest.raises(SettingsError) as raised:
        _read(provider={"extra_headers": {"X-Gate": slip}})
    assert "provider.extra_headers.X-Gate: expected ${NAME} where" in str(raised.value)
    assert slip not in str(raised.value)


@pytest.mark.parametrize("value", WRITTEN_OUT)
def test_a_value_that_names_no_variable_goes_as_it_stands(value: str) -> None:
    provider = _read(provider={"extra_headers": {"X-Gate": value}, "extra_body": {"a": value}})
    assert _headers(provider) == [value]


def test_a_dollar_can_be_said_before_anything() -> None:
    written = {"X-A": "$$GATE", "X-B": "$${GATE}", "X-C": "$$${GATE} $$(x)"}
    chosen = _read(provider={"extra_headers": written})
    assert _headers(chosen) == ["$GATE", "${GATE}", "$s3cret $(x)"]


@pytest.mark.parametrize("slip", ["$TASK", "${TASK}", "key ${TASK}", "%TASK%", " {TASK} "])
@pytest.mark.parametrize("nested", [False, True])
def test_the_body_names_no_variable(slip: str, *, nested: bool) -> None:
    value = {"a": ["b", slip]} if nested else slip
    with pytest.raises(SettingsError, match=r"extra_body: .* put a secret into extra_headers"):
        _read(provider={"extra_body": {"task": value}})


@pytest.mark.parametrize(
    ("sections", "place"),
    [
        ({"provider": {"base_url": "https://${HOST}/v1"}}, "provider.base_url"),
        ({"provider": {"base_url": "https://host/$STAGE/v1"}}, "provider.base_url"),
        ({"provider": {"base_url": "https://{host}/v1"}}, "provider.base_url"),
        ({"provider": {"model": "$EMBEDDING_MODEL"}}, "provider.model"),
        ({"repair": {"pause_file": "$HOME/pause"}}, "repair.pause_file"),
        ({"repair": {"pause_file": "~/pause"}}, "repair.pause_file"),
        ({"database": {"url_env": "${DATABASE_URL}"}}, "database.url_env"),
        ({"database": {"write_url_env": "$DATABASE_URL"}}, "database.write_url_env"),
        ({"keys": {"fallback_env": "%OPENAI_API_KEY%"}}, "keys.fallback_env"),
        ({"keys": {"env": "$OPENAI_API_KEY__{tenant}"}}, "keys.env"),
        ({"keys": {"fallback_env": "0f8b2d4c6e1a39577b9d0c2e4f6a8b1d"[1:]}}, "keys.fallback_env"),
        ({"keys": {"fallback_env": "hf_AbCdEfGhIjKlMnOpQrStUvWxYzAbCdEfGh"}}, "keys.fallback_env"),
        ({"keys": {"fallback_env": "gsk_Ab3dEf6hIj8lMn0pQr"}}, "keys.fallback_env"),
    ],
)
def test_a_value_of_another_kind_than_its_place_takes_is_refused_without_showing_it(
    sections: dict[str, Any], place: str
) -> None:
    with pytest.raises(SettingsError) as raised:
        _read(**sections)
    (said,) = str(raised.value).splitlines()
    assert f"{place}: expected" in said
    (value,) = (value for section in sections.values() for value in section.values())
    assert value not in said


@pytest.mark.parametrize(
    "name",
    ["OPENAI_API_KEY", "AZUREOPENAIAPIKEY2", "productionOpenAiApiKey", "S3_2024_ACCOUNT", "KEY"],
)
def test_names_that_people_give_their_variables_are_taken(name: str) -> None:
    assert _read(keys={"fallback_env": name}).keys.fallback_env == name


def _headers(chosen: Settings) -> list[str]:
    headers = extra_headers_of(chosen.provider, {"GATE": "s3cret"})
    return [value.get_secret_value() for _, value in headers]


def test_a_table_and_a_tenant_have_models_by_name() -> None:
    models = {"model": "${MODEL}", "tenant_models": {"acme": "%MODEL%"}}
    entry = {"name": "docs", "text": "body", "tenant": "t", **models}
    with pytest.raises(SettingsError) as raised:
        settings_in({"tables": [entry]}, row_checks=(), named="integrity.toml")
    assert [fault.partition(": expected the value itself")[0] for fault in raised.value.errors] == [
        "integrity.toml: tables[docs].model",
        "integrity.toml: tables[docs].tenant_models.acme",
    ]

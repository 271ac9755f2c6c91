"""Writes settings files for the tests that read them; asserts nothing about a rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from checks.errors import SettingsError
from checks.row_checks.rules import ROW_CHECK_NAMES
from checks.settings.integrity_toml import Settings, load_settings

if TYPE_CHECKING:
    from pathlib import Path

TABLE = '[[tables]]\nname = "public.docs"\ntext = "body"\n'
PATTERN = '[[tables]]\nname = "tenant_*.docs"\ntext = "body"\n'


def settings_of(folder: Path, text: str) -> Settings:
    """The settings that a file with this text gives."""
    path = folder / "integrity.toml"
    path.write_text(text, encoding="utf-8")
    return load_settings(path, row_checks=ROW_CHECK_NAMES)


def faults_of(folder: Path, text: str) -> tuple[str, ...]:
    """The faults in a file with this text, without the file's name that each begins with."""
    with pytest.raises(SettingsError) as caught:
        settings_of(folder, text)
    assert all(fault.startswith("integrity.toml: ") for fault in caught.value.errors)
    return tuple(fault.removeprefix("integrity.toml: ") for fault in caught.value.errors)

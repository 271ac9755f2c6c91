"""Tells a value that names a variable of the environment where none is filled in.

No message shows the value: a default in it may be a secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

FILLED_IN = re.compile(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
"""What a header's value takes from the environment; `$$` is a dollar."""

_SAID = re.compile(r"\$\$\{?|\$\{[A-Za-z_][A-Za-z0-9_]*\}")
# %…% has three characters or more: two are a percent-encoded byte.
_REFERENCE = re.compile(
    r"\$(?:env:)?[A-Za-z_]\w*|\$\([^)]*\)?|\$\{[^}]*\}*|%[A-Za-z_]\w{2,}%"
    r"|\{{1,2}\s*[A-Za-z_][\w.:-]*\s*\}{1,2}",
    re.ASCII,
)
"""How shells, CI systems and templates name a variable."""


def names_a_variable(value: str) -> bool:
    """Whether a value that is taken as it stands was meant to name a variable."""
    return _REFERENCE.search(value) is not None


def as_it_stands(value: str) -> str:
    """The value. Raises ValueError in words where it names a variable."""
    if names_a_variable(value):
        raise ValueError(
            "expected the value itself, found the name of a variable, which is not filled in here; "
            "write the value out"
        )
    return value


def header_value(value: str) -> str:
    """The value of a header. Raises ValueError where it names a variable otherwise than may be."""
    if names_a_variable(_SAID.sub(" ", value)):
        raise ValueError(
            "expected ${NAME} where a variable of the environment goes, found another form, which "
            "would be sent as it stands; write it so, and a dollar of the value itself as $$"
        )
    return value


def body_value(value: object) -> None:
    """Raise ValueError where a text in it names a variable, and is nothing else, or as headers do.

    More would be refused wrongly: texts of a body are often templates or instructions.
    """
    if isinstance(value, str):
        as_in_headers = any(found[1] for found in FILLED_IN.finditer(value))
        if as_in_headers or _REFERENCE.fullmatch(value.strip()):
            raise ValueError(
                "expected the value itself, found the name of a variable, and a tenant's own "
                "endpoint gets the body too; write it out, or put a secret into extra_headers"
            )
    elif isinstance(value, (list, Mapping)):
        for each in value.values() if isinstance(value, Mapping) else value:
            body_value(each)

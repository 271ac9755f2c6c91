"""Says why the server refused, leaving out what its message quotes, which may be a row's values.

Nothing else of an error may be shown: its detail and its context hold whole rows.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from checks.redaction import redactor

if TYPE_CHECKING:
    import psycopg

USER_CODE = frozenset({"P0", "38", "39"})
"""Classes of SQLSTATE in which the code of triggers and functions speaks."""
RAISED_BY = frozenset({"exec_stmt_raise", "exec_stmt_assert"})
"""Functions of the server in which PL/pgSQL's RAISE and ASSERT end, whatever SQLSTATE they name."""
OTHER_LANGUAGES = frozenset({"plpy_elog.c", "plperl.c", "pltcl.c"})
DATA_EXCEPTION = "22"
"""The class of SQLSTATE whose messages quote the value that could not be read."""

_QUOTED = re.compile(r'["\u00ab\u00bb\u2018-\u201f\u2039\u203a\u300c\u300d].*', re.DOTALL)
"""From the first quotation mark on, in whatever language the server speaks."""


def reason_of(error: psycopg.Error) -> str:
    """What the server said, on one line and redacted, with its hint, without what it quotes."""
    diag = error.diag
    state = error.sqlstate or ""
    if (
        state[:2] in USER_CODE
        or diag.source_function in RAISED_BY
        or diag.source_file in OTHER_LANGUAGES
    ):
        # Its message may quote any part of the row. The context's first line names the function.
        where = (diag.context or "").partition("\n")[0] if diag.source_function in RAISED_BY else ""
        return _line(f"a trigger or function raised SQLSTATE {state}" + (where and f" ({where})"))
    if state.startswith(DATA_EXCEPTION) or diag.internal_query is not None:
        return _line(_QUOTED.sub("…", diag.message_primary or type(error).__name__))
    return whole_reason_of(error)


def whole_reason_of(error: psycopg.Error) -> str:
    """The same with what it quotes, for statements that read no row: they quote settings alone."""
    primary = error.diag.message_primary or str(error)
    return _line(f"{primary} ({hint})" if (hint := error.diag.message_hint) else primary)


def _line(words: str) -> str:
    return redactor.clean(" ".join(words.split()))

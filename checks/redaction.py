"""Keeps secrets out of everything a person reads, by replacing registered values in its text.

Holds secrets only; decides nothing about where text goes.
"""

from __future__ import annotations

import threading
from urllib.parse import quote, quote_plus

from checks.wording import visible

PLACEHOLDER = "[redacted]"
SHORTEST_SECRET = 4
"""Shorter values are not replaced: they stand in ordinary words and guard nothing."""


class Redactor:
    """Replaces registered secrets, raw or percent-encoded. Safe across threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._forms: set[str] = set()
        self._ordered: tuple[str, ...] | None = ()
        """None where they are to be put in order anew: ten thousand tenants may have their keys."""

    def add(self, secret: str | None) -> None:
        """Register a secret; None and values shorter than `SHORTEST_SECRET` are ignored."""
        if secret is None or len(secret) < SHORTEST_SECRET:
            return
        forms = {secret, quote(secret, safe=""), quote_plus(secret), repr(secret)[1:-1]}
        with self._lock:
            if not forms <= self._forms:
                self._forms |= forms
                self._ordered = None

    def clean(self, text: str) -> str:
        """The text with every registered secret replaced."""
        for form in self._in_order() if text else ():
            text = text.replace(form, PLACEHOLDER)
        return text

    def _in_order(self) -> tuple[str, ...]:
        """Longest first: a secret that contains another one is replaced whole."""
        ordered = self._ordered
        if ordered is None:
            with self._lock:
                ordered = self._ordered = tuple(sorted(self._forms, key=len, reverse=True))
        return ordered


redactor = Redactor()
"""The one register of the process: whoever learns a secret adds it here first."""


def for_terminal(text: str) -> str:
    """The text without secrets, with characters that a terminal would obey shown instead."""
    return visible(redactor.clean(text))

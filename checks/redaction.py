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
        self._by_ending: dict[str, tuple[str, ...]] = {}
        """Ten thousand tenants may have their keys, which begin alike and end each in its way."""

    def add(self, secret: str | None) -> None:
        """Register a secret; None and values shorter than `SHORTEST_SECRET` are ignored."""
        if secret is None or len(secret) < SHORTEST_SECRET:
            return
        with self._lock:
            for form in {secret, quote(secret, safe=""), quote_plus(secret), repr(secret)[1:-1]}:
                ending = form[-SHORTEST_SECRET:]
                known = self._by_ending.get(ending, ())
                if form not in known:
                    self._by_ending[ending] = (*known, form)

    def clean(self, text: str) -> str:
        """The text with every registered secret replaced."""
        if not self._by_ending:
            return text
        if len(self._by_ending) < len(text):
            found = [ending for ending in self._by_ending.copy() if ending in text]
        else:
            pieces = {text[at : at + SHORTEST_SECRET] for at in range(len(text))}
            found = [ending for ending in pieces if ending in self._by_ending]
        forms = [form for ending in found for form in self._by_ending[ending]]
        # Longest first: a secret that contains another one is replaced whole.
        for form in sorted(forms, key=len, reverse=True):
            text = text.replace(form, PLACEHOLDER)
        return text


redactor = Redactor()
"""The one register of the process: whoever learns a secret adds it here first."""


def for_terminal(text: str) -> str:
    """The text without secrets, with characters that a terminal would obey shown instead."""
    return visible(redactor.clean(text))

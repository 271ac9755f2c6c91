"""Learns from refusals how much one request to an endpoint may hold, and keeps to it.

What is learnt makes requests smaller; no row is ever refused for it.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from remediation.provider.endpoint import Endpoint

Unit = Literal["texts", "tokens"]

SETTING: Mapping[Unit, str] = {"texts": "batch_size", "tokens": "max_tokens_per_request"}

OFTEN = 3
"""Requests that failed without a word of their size while all of their parts did not, and none as
large was taken between, before it is put down to their size."""
GROW_AFTER = 20
"""Requests of such a size that are taken before it is doubled; each time twice as many: what was an
outage is over, and a limit that is there costs few requests."""

MOST_TRIALS = 10
"""Larger requests that are tried to find a limit that no refusal says as a number: between a size
that was taken and twice that, five halvings come as near as `NEAR`."""
NEAR = 16
"""A limit is found where what was refused is larger than what was taken by such a part of it."""

MESSAGE_CHARACTERS = 2_000
"""Of a refusal's words, what is looked at: what follows may be the texts, which it repeats."""

_MESSAGE_KEYS = ("message", "detail", "msg", "error", "title", "reason", "errors")

_LIMIT = re.compile(
    r"\bmax|\bat most\b|\bmore than\b|\bup to\b|\blimit|\bexceed|\btoo (?:many|long|large|big)\b"
    r"|\b(?:larger|greater|longer|fewer|less) than\b|\bonly\b|\bsplit\b|最大|最多|不得超过|不能超过"
)
_OF_TEXTS = re.compile(
    r"\bbatch|\binputs?\b|\btexts?\b|\bitems?\b|\belements?\b|\barray\b|\blist\b|\binstances?\b"
    r"|\bdocuments?\b|\bstrings?\b|\bentries\b|\bsentences?\b|\bcontents?\b|批|条|数组"
)
_OF_TOKENS = re.compile(r"\btokens?\b")
_OF_ONE_TEXT = re.compile(
    r"context (?:length|window|size)|\bper (?:input|text|item)\b|\beach (?:input|text|item)\b"
    r"|\bprompt\b|sequence length|\bcharacters?\b"
)
_OF_A_REQUEST = re.compile(
    r"\brequest\b|\bbatch\b|\btotal\b|\boverall\b|\bcombined\b|\bsum\b|\ball (?:inputs|texts)\b"
)
_NUMBER = re.compile(r"(?<![\w.\[-])\d{1,9}(?:,\d{3})*(?![\w\]]|\.\d)", re.ASCII)
"""None that is part of a name (`e5-2`), of a version (3.1), or an index (`input[3]`)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TooMuch:
    """What a refusal says of a request's size: `most` of `unit`; None: it gives no number."""

    unit: Unit
    most: int | None = None


def too_much(body: bytes, *, texts: int) -> TooMuch | None:
    """What the body of a refusal says of the size of a request of so many texts, or None.

    By words that providers use: OpenAI's "array too long", TEI's "batch size 50 > maximum allowed
    batch size 32", DashScope's "it should not be larger than 10", Voyage's "max allowed tokens per
    submitted batch is 120000".
    """
    words = _words(body).lower()
    if not _LIMIT.search(words) or _OF_ONE_TEXT.search(words):
        return None
    numbers = [int(number.replace(",", "")) for number in _NUMBER.findall(words)]
    if _OF_TOKENS.search(words):
        # The smaller one is what may be, the larger one what was.
        most = min((number for number in numbers if number > texts), default=None)
        return TooMuch(unit="tokens", most=most) if _OF_A_REQUEST.search(words) else None
    if not _OF_TEXTS.search(words):
        return None
    # A code or a position may be among the numbers: too many at first is only refused again.
    return TooMuch(unit="texts", most=max((n for n in numbers if 0 < n < texts), default=None))


def _words(body: bytes) -> str:
    try:
        parsed: Any = json.loads(body)
    except (ValueError, RecursionError):
        parsed = re.sub(r"<[^>]{0,200}>", " ", body[:MESSAGE_CHARACTERS].decode(errors="replace"))
    return " ".join(_messages(parsed, depth=5))[:MESSAGE_CHARACTERS]


def _messages(value: object, *, depth: int) -> Iterator[str]:
    """The words of an error in any of the shapes in use, but nothing else that it repeats."""
    if isinstance(value, str):
        yield value[:MESSAGE_CHARACTERS]
    elif isinstance(value, Mapping) and depth:
        for key in _MESSAGE_KEYS:
            yield from _messages(value.get(key), depth=depth - 1)
    elif isinstance(value, list) and depth:
        for each in value[:5]:
            if isinstance(each, Mapping):
                yield from _messages(each, depth=depth - 1)


@dataclass(kw_only=True, slots=True)
class RequestSize:
    """What one request to an endpoint may hold, as far as it is known. Safe across threads."""

    texts: int | None = None
    tokens: int | None = None
    refused: dict[Unit, int] = field(default_factory=dict)
    """What the requests held that were refused for it."""
    unsaid: int | None = None
    """Texts of the smallest request that failed without a word of its size."""
    _ceilings: dict[Unit, int] = field(default_factory=dict)
    """What the smallest request held that was refused without a number, while that is searched."""
    _trying: bool = False
    _trials: int = 0
    _doubts: int = 0
    _successes: int = 0
    _patience: int = GROW_AFTER
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def learn(
        self, unit: Unit, most: int, *, refused: int, said: bool = True, exact: bool = True
    ) -> None:
        """A request that held more than `most` was refused for it, one that held `most` was not.

        Where that was not `said`, it holds until as large a request is taken; where it is not
        `exact`, as no number was said, larger requests are tried.
        """
        with self._lock:
            known = self._known(unit)
            searched = said and not exact and known is not None and known < refused
            if most < 1 or (known is not None and (known <= most or searched)):
                return
            if said and not exact:
                self._ceilings[unit] = refused
            else:
                self._ceilings.pop(unit, None)
            if said and unit == "texts":
                self.unsaid = None
            self.refused.setdefault(unit, refused)
            self._set(unit, most)

    def refuse(self, unit: Unit, held: int) -> None:
        """A request that held so much was refused for it, without a number."""
        with self._lock:
            known, ceiling = self._known(unit), self._ceilings.get(unit)
            if known is not None and ceiling is not None and known < held < ceiling:
                self._ceilings[unit] = self.refused[unit] = held

    @property
    def learnt(self) -> dict[Unit, int]:
        """What is known."""
        known: dict[Unit, int | None] = {"texts": self.texts, "tokens": self.tokens}
        return {unit: most for unit, most in known.items() if most is not None}

    def doubt(self, texts: int) -> bool:
        """A request of so many texts failed, and no part of it did: whether that is often so."""
        with self._lock:
            self._doubts += 1
            self.unsaid = min(texts, self.unsaid or texts)
            return self._doubts >= OFTEN

    @property
    def searched(self) -> bool:
        """Whether larger requests than the known ones are still tried."""
        return self._trials < MOST_TRIALS and any(
            self._next(unit) != self._known(unit) for unit in tuple(self._ceilings)
        )

    def taken(self, texts: int, tokens: int) -> None:
        """A request of so much succeeded: what was only put down to the size may be over."""
        held: dict[Unit, int] = {"texts": texts, "tokens": tokens}
        with self._lock:
            for unit, ceiling in self._ceilings.items():
                known = self._known(unit)
                if known is not None and known < held[unit] < ceiling:
                    self._set(unit, held[unit])
            if self.unsaid is None:
                return
            if texts >= self.unsaid:
                self.texts = self.unsaid = None
                self._doubts = 0
            elif self.texts is not None and texts >= self.texts:
                self._successes += 1
                if self._successes == self._patience:
                    self.texts *= 2
                    self._patience *= 2
                    self._successes = 0

    def parts(
        self, positions: Sequence[int], tokens_of: Callable[[int], int]
    ) -> list[tuple[int, ...]]:
        """The positions, in order, in as few parts as a request each may hold."""
        parts = []
        while positions:
            fitting = _fitting(positions, tokens_of, self.texts, self.tokens)
            parts.append(tuple(positions[:fitting]))
            positions = positions[fitting:]
        return parts

    def first(
        self, positions: Sequence[int], tokens_of: Callable[[int], int]
    ) -> tuple[tuple[int, ...], bool]:
        """The first of the parts, or a larger one as a trial, which is said: `end_trial()` then.

        One trial at a time, whoever asks.
        """
        with self._lock:
            most = _fitting(positions, tokens_of, self.texts, self.tokens)
            if self.searched and not self._trying:
                larger = _fitting(positions, tokens_of, self._next("texts"), self._next("tokens"))
                self._trying = larger > most
                most = max(most, larger)
                self._trials += self._trying
                return tuple(positions[:most]), self._trying
            return tuple(positions[:most]), False

    def end_trial(self) -> None:
        """A trial was taken, refused, or not asked."""
        with self._lock:
            self._trying = False

    def _known(self, unit: Unit) -> int | None:
        return self.texts if unit == "texts" else self.tokens

    def _set(self, unit: Unit, most: int) -> None:
        if unit == "texts":
            self.texts = most
        else:
            self.tokens = most

    def _next(self, unit: Unit) -> int | None:
        """The middle between what was taken and what was refused, while these are far apart."""
        known, ceiling = self._known(unit), self._ceilings.get(unit)
        if known is None or ceiling is None or ceiling - known <= max(1, known // NEAR):
            return known
        return (known + ceiling) // 2


def _fitting(
    positions: Sequence[int],
    tokens_of: Callable[[int], int],
    texts: int | None,
    tokens: int | None,
) -> int:
    """How many of the positions, from the first on, are in a request of so much; 1 at least."""
    most = len(positions) if texts is None else min(texts, len(positions))
    held = 0
    for count in range(most if tokens is not None else 0):
        held += tokens_of(positions[count])
        if count and tokens is not None and held > tokens:
            return count
    return most


@dataclass(kw_only=True, slots=True)
class RequestSizes:
    """Every endpoint's, for a whole run; what one key's refusal says holds for all keys."""

    _sizes: dict[tuple[str, str], RequestSize] = field(default_factory=dict)
    _told: set[tuple[str, str, Unit]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def of(self, endpoint: Endpoint) -> RequestSize:
        """The one of an endpoint and its model."""
        with self._lock:
            return self._sizes.setdefault((endpoint.base_url, endpoint.model), RequestSize())

    def untold(self) -> Iterator[str]:
        """What was learnt and not told yet, for people, with the setting that says it."""
        with self._lock:
            for (url, model), size in self._sizes.items():
                for unit, most in size.learnt.items():
                    if (url, model, unit) in self._told:
                        continue
                    self._told.add((url, model, unit))
                    host, refused = urlsplit(url).hostname, size.refused[unit]
                    if unit == "texts" and size.unsaid is not None:
                        yield (
                            f"{host} failed again and again at {refused:,} texts in a request, not"
                            f" at {most:,} (of {model}), and does not say why: requests are made"
                            " smaller until larger ones succeed"
                        )
                        continue
                    yield (
                        f"{host} takes no more than {most:,} {unit} in a request"
                        f" (of {model}; {refused:,} were refused), so requests are made"
                        f" smaller: with {SETTING[unit]} = {most} in [provider] none is refused"
                    )

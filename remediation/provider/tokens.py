"""Counts the tokens of a text: exactly where a vocabulary is on disk, else by a high estimate.

Must not download anything: a vocabulary that is not on disk is not used.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tiktoken import Encoding


class TokenCounter(Protocol):
    """Counts tokens for batching, caps and prices."""

    @property
    def exact(self) -> bool:
        """Whether `count` is the provider's own count, not an estimate."""

    @property
    def description(self) -> str:
        """How the tokens are counted, in words for a report."""

    def count(self, text: str) -> int:
        """Tokens of the text, at least 1."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EstimatedTokens:
    """An estimate without a vocabulary that errs on the high side for prose, code and any script.

    OpenAI's rule of thumb is 4 characters of English per token (its help article "What are tokens
    and how to count them?"); 3 leaves room for code, and is exact for long numbers, which
    `cl100k_base` cuts into groups of three digits. Other scripts are counted in UTF-8 bytes, since
    a byte-level BPE falls back to bytes: 2 bytes a token is a token per Cyrillic or Greek letter
    and 1.5 per Chinese character, both above what `cl100k_base` needs on average. Only text without
    words (base64, hashes) may need more; the provider then refuses the request, which is bisected.
    """

    @property
    def exact(self) -> bool:
        return False

    @property
    def description(self) -> str:
        return "estimated: a token per 3 ASCII characters or 2 bytes of other scripts"

    def count(self, text: str) -> int:
        ascii_characters = len(text) if text.isascii() else len(text.encode("ascii", "ignore"))
        if ascii_characters == len(text):
            return max(1, -(-ascii_characters // 3))
        other_bytes = len(text.encode("utf-8", "surrogatepass")) - ascii_characters
        return max(1, -(-(2 * ascii_characters + 3 * other_bytes) // 6))


def characters_within(text: str, limit: int) -> int:
    """How many of its first characters the estimate counts at no more than `limit` tokens."""
    sixths = 6 * limit
    for position, character in enumerate(text):
        sixths -= 2 if character.isascii() else 3 * len(character.encode("utf-8", "surrogatepass"))
        if sixths < 0:
            return position
    return len(text)


class TiktokenTokens:
    """The exact count of a byte-level BPE encoding."""

    def __init__(self, encoding: Encoding) -> None:
        self._encoding = encoding
        self._longest_token = max(len(token) for token in encoding.token_byte_values())

    @property
    def exact(self) -> bool:
        return True

    @property
    def description(self) -> str:
        return f"exact: tiktoken, {self._encoding.name}"

    def count(self, text: str) -> int:
        # "Ordinary": a text that spells a special token is plain text, as for the provider.
        return max(1, len(self._encoding.encode_ordinary(text)))

    def truncate(self, text: str, limit: int) -> str:
        """The longest prefix cut at a token boundary that counts at most `limit` tokens.

        The cut is a character boundary too. The prefix is empty where the first character alone
        needs more than `limit` tokens. Raises ValueError for a limit below 1.
        """
        if limit < 1:
            raise ValueError(f"expected a limit of at least 1 token, found {limit}")
        # Characters beyond this cannot be part of the answer: each needs at least a byte.
        tokens = self._encoding.encode_ordinary(text[: (limit + 1) * self._longest_token])
        if len(tokens) <= limit:
            return text
        for end in range(limit, 0, -1):
            try:
                prefix = self._encoding.decode_bytes(tokens[:end]).decode("utf-8")
            except UnicodeDecodeError:
                continue
            # A prefix may be tokenised differently without what followed it, and need more.
            if len(self._encoding.encode_ordinary(prefix)) <= limit:
                return prefix
        return ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Vocabulary:
    """A tiktoken vocabulary: where tiktoken gets it from, its SHA-256, its splitting pattern."""

    name: str
    url: str
    sha256: str
    pattern: str


CL100K = Vocabulary(
    name="cl100k_base",
    url="https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken",
    sha256="223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    pattern=(
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
        r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
    ),
)
"""As tiktoken itself declares it (`tiktoken_ext/openai_public.py`)."""

OPENAI_VOCABULARIES: Mapping[str, Vocabulary] = {
    "text-embedding-ada-002": CL100K,
    "text-embedding-3-small": CL100K,
    "text-embedding-3-large": CL100K,
}
"""Vocabulary of OpenAI's embedding models, from tiktoken's `MODEL_TO_ENCODING`."""


def token_counter(
    model: str,
    environ: Mapping[str, str],
    vocabularies: Mapping[str, Vocabulary] = OPENAI_VOCABULARIES,
) -> TokenCounter:
    """The exact counter where tiktoken and the model's vocabulary are here, else the estimate.

    The vocabulary is looked for where tiktoken keeps it (`TIKTOKEN_CACHE_DIR`,
    `DATA_GYM_CACHE_DIR`, or `data-gym-cache` among the temporary files), and read from there
    directly: tiktoken's own loader would download a file that is missing or damaged.
    """
    vocabulary = vocabularies.get(model)
    if vocabulary is None or importlib.util.find_spec("tiktoken") is None:
        return EstimatedTokens()
    content = _cached(vocabulary, environ)
    if content is None:
        return EstimatedTokens()
    from tiktoken import Encoding

    ranks = {
        base64.b64decode(token): int(rank)
        for token, rank in (line.split() for line in content.splitlines() if line)
    }
    return TiktokenTokens(
        Encoding(
            vocabulary.name, pat_str=vocabulary.pattern, mergeable_ranks=ranks, special_tokens={}
        )
    )


def _cached(vocabulary: Vocabulary, environ: Mapping[str, str]) -> bytes | None:
    folder = environ.get("TIKTOKEN_CACHE_DIR", environ.get("DATA_GYM_CACHE_DIR"))
    if folder == "":  # tiktoken's way to switch its cache off
        return None
    parent = Path(folder) if folder else Path(tempfile.gettempdir(), "data-gym-cache")
    # The file's name in tiktoken's cache is the SHA-1 of its address; no secret depends on it.
    name = hashlib.sha1(vocabulary.url.encode(), usedforsecurity=False).hexdigest()
    try:
        content = (parent / name).read_bytes()
    except OSError:
        return None
    return content if hashlib.sha256(content).hexdigest() == vocabulary.sha256 else None

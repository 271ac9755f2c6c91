"""What the token counters promise: never too low for ordinary text, exact where it says exact."""

from __future__ import annotations

import base64
import hashlib
from typing import TYPE_CHECKING

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

from remediation.provider.tokens import (
    CL100K,
    EstimatedTokens,
    TiktokenTokens,
    Vocabulary,
    token_counter,
)

if TYPE_CHECKING:
    from pathlib import Path

BYTES = {bytes([value]): value for value in range(256)}
MERGES = [b"he", b"ll", b"hell", b"hello", b" w", b" wo", b"  ", "é".encode(), "日".encode()[:2]]
RANKS = {**BYTES, **{token: 256 + rank for rank, token in enumerate(MERGES)}}
SMALL = tiktoken.Encoding("small", pat_str=CL100K.pattern, mergeable_ranks=RANKS, special_tokens={})


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 1),
        ("a", 1),
        ("abc", 1),
        ("abcd", 2),
        ("123456789", 3),
        ("при", 3),
        ("日本", 3),
        ("a日", 2),
    ],
)
def test_an_estimate_is_a_token_per_three_ascii_characters_or_two_other_bytes(
    text: str, tokens: int
) -> None:
    assert EstimatedTokens().count(text) == tokens
    assert not EstimatedTokens().exact


def test_an_estimate_counts_a_lone_surrogate_instead_of_failing() -> None:
    assert EstimatedTokens().count("\ud800") == 2


@given(st.text(), st.text())
def test_an_estimate_never_shrinks_when_text_is_added(first: str, second: str) -> None:
    counter = EstimatedTokens()
    assert counter.count(first) <= counter.count(first + second)
    assert counter.count(first + second) <= counter.count(first) + counter.count(second)


def test_an_exact_counter_counts_the_tokens_of_its_encoding() -> None:
    counter = TiktokenTokens(SMALL)
    assert counter.exact
    assert counter.count("hello") == 1
    assert counter.count("hello wo") == 2
    assert counter.count("") == 1
    assert "small" in counter.description


def test_text_that_spells_a_special_token_is_counted_as_text() -> None:
    encoding = tiktoken.Encoding(
        "special", pat_str=CL100K.pattern, mergeable_ranks=BYTES, special_tokens={"<|end|>": 300}
    )
    assert TiktokenTokens(encoding).count("<|end|>") == len("<|end|>")


def test_a_text_within_the_limit_is_not_cut() -> None:
    assert TiktokenTokens(SMALL).truncate("hello wo", 2) == "hello wo"


def test_a_cut_falls_between_tokens() -> None:
    assert TiktokenTokens(SMALL).truncate("hello wo", 1) == "hello"


def test_a_cut_never_splits_a_character() -> None:
    # 日 is two tokens here: its first two bytes, and its last.
    counter = TiktokenTokens(SMALL)
    assert counter.count("日") == 2
    assert counter.truncate("a日", 2) == "a"
    assert counter.truncate("a日", 3) == "a日"
    assert counter.truncate("日本", 1) == ""


@given(
    st.text(alphabet=st.sampled_from("helo w\n1é日😀<") | st.characters(codec="utf-8")),
    st.integers(1, 12),
)
def test_a_cut_text_is_a_prefix_that_keeps_the_limit(text: str, limit: int) -> None:
    counter = TiktokenTokens(SMALL)
    cut = counter.truncate(text, limit)
    assert text.startswith(cut)
    assert counter.count(cut) <= limit
    if len(SMALL.encode_ordinary(text)) <= limit:
        assert cut == text


def test_a_limit_below_one_token_is_refused() -> None:
    with pytest.raises(ValueError, match="expected a limit of at least 1 token, found 0"):
        TiktokenTokens(SMALL).truncate("hello", 0)


def vocabulary_in(folder: Path, *, damaged: bool = False) -> Vocabulary:
    """A vocabulary whose address cannot be reached, written where tiktoken would keep it."""
    lines = [f"{base64.b64encode(token).decode()} {rank}" for token, rank in RANKS.items()]
    content = "\n".join(lines).encode()
    url = "http://127.0.0.1:1/small.tiktoken"
    name = hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()
    (folder / name).write_bytes(content[:-1] if damaged else content)
    return Vocabulary(
        name="small", url=url, sha256=hashlib.sha256(content).hexdigest(), pattern=CL100K.pattern
    )


@pytest.mark.parametrize("variable", ["TIKTOKEN_CACHE_DIR", "DATA_GYM_CACHE_DIR"])
def test_a_vocabulary_on_disk_is_used(tmp_path: Path, variable: str) -> None:
    vocabularies = {"model-s": vocabulary_in(tmp_path)}
    counter = token_counter("model-s", {variable: str(tmp_path)}, vocabularies)
    assert counter.exact
    assert counter.count("hello wo") == 2


def test_a_damaged_vocabulary_is_neither_used_nor_removed(tmp_path: Path) -> None:
    vocabularies = {"model-s": vocabulary_in(tmp_path, damaged=True)}
    environ = {"TIKTOKEN_CACHE_DIR": str(tmp_path)}
    assert not token_counter("model-s", environ, vocabularies).exact
    assert len(list(tmp_path.iterdir())) == 1


def test_without_a_vocabulary_on_disk_tokens_are_estimated_and_nothing_is_fetched(
    tmp_path: Path,
) -> None:
    environ = {"TIKTOKEN_CACHE_DIR": str(tmp_path)}
    assert token_counter("text-embedding-3-small", environ) == EstimatedTokens()
    assert list(tmp_path.iterdir()) == []


def test_a_cache_that_is_switched_off_is_not_searched(tmp_path: Path) -> None:
    vocabularies = {"model-s": vocabulary_in(tmp_path)}
    environ = {"TIKTOKEN_CACHE_DIR": "", "DATA_GYM_CACHE_DIR": str(tmp_path)}
    assert not token_counter("model-s", environ, vocabularies).exact


def test_an_unknown_model_is_estimated(tmp_path: Path) -> None:
    environ = {"TIKTOKEN_CACHE_DIR": str(tmp_path)}
    assert token_counter("nomic-embed-text", environ) == EstimatedTokens()

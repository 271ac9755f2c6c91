"""Texts that are too long for the provider where no vocabulary says how long they are."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks.settings.integrity_toml import Provider
from remediation.journal.outcomes import Outcome
from remediation.provider.tokens import CL100K, EstimatedTokens, characters_within, token_counter
from remediation.selection.preparation import shorter_forms
from tests.drivers.repairs import docs, environment, repaired, settings
from tests.servers.provider_server import ProviderServer, ReceivedRequest, Reply, vector_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from remediation.provider.bisection import Cut

KEYS = environment("acme", "globex")
TRUNCATE = {"too_long": "truncate", "max_tokens_per_input": 30}


def forms(text: str, limit: int = 30, too_long: str = "truncate") -> list[Cut]:
    provider = Provider.model_validate({"too_long": too_long, "max_tokens_per_input": limit})
    return list(shorter_forms(text, provider, EstimatedTokens()))


def longer_than(size: int) -> Callable[[ReceivedRequest], Reply | None]:
    """A rule for the server: refuse what holds a text of more bytes."""

    def rule(request: ReceivedRequest) -> Reply | None:
        if any(len(text.encode()) > size for text in request.texts):
            return Reply(
                status=400,
                error={"message": "maximum context length is 30 tokens", "param": "input"},
            )
        return None

    return rule


@given(st.text(max_size=400), st.integers(1, 60))
def test_every_form_is_a_prefix_within_its_limit_and_shorter_than_the_last(
    text: str, limit: int
) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        return  # never sent at all
    shown = forms(text, limit)
    assert bool(shown) <= (size > limit)
    lengths = [len(text), *(len(form.text) for form in shown)]
    for form, before, length in zip(shown, lengths, lengths[1:], strict=False):
        assert text.startswith(form.text)
        assert form.text.strip()
        assert length < before
        assert EstimatedTokens().count(form.text) <= limit
    if shown and "bytes" in shown[-1].note:
        assert len(shown[-1].text.encode()) <= limit


@given(st.text(max_size=300), st.integers(1, 60))
def test_the_estimate_cuts_at_the_last_character_that_it_allows(text: str, limit: int) -> None:
    end = characters_within(text, limit)
    assert end == 0 or EstimatedTokens().count(text[:end]) <= limit
    assert end == len(text) or EstimatedTokens().count(text[: end + 1]) > limit


def test_a_text_is_cut_at_a_white_space_where_there_is_one_near() -> None:
    words = "seven77 " * 30
    first, second = forms(words)
    assert first.text == ("seven77 " * 11).rstrip()
    assert first.note == "text cut to about 30 tokens, by estimate"
    assert second.text == ("seven77 " * 3).rstrip()
    assert second.note == "text cut to 23 bytes"
    assert [len(form.text) for form in forms("x" * 200)] == [90, 30]
    assert [form.text for form in forms("Ж" * 100)] == ["Ж" * 30, "Ж" * 15]


def test_nothing_shorter_is_tried_unless_it_may_help(tmp_path: Path) -> None:
    assert forms("x" * 200, too_long="quarantine") == []
    assert forms("x" * 30) == []
    # What the estimate takes for short enough already is cut by its bytes at once.
    assert [form.note for form in forms("x" * 60)] == ["text cut to 30 bytes"]
    assert token_counter(CL100K.name, {"TIKTOKEN_CACHE_DIR": str(tmp_path)}).exact is False


@pytest.mark.parametrize(
    ("most", "note", "kept"),
    [
        (90, "text cut to about 30 tokens, by estimate", 11),
        (40, "text cut to 23 bytes", 3),
    ],
)
def test_a_text_that_is_refused_alone_is_embedded_cut_and_its_hash_is_that_of_the_whole(
    database: str, tmp_path: Path, most: int, note: str, kept: int
) -> None:
    long = "seven77 " * 30
    with docs(database, {"acme": (1, 10)}) as table, ProviderServer() as server:
        table.execute("ALTER TABLE docs ADD hash text")
        table.execute("UPDATE docs SET hash = md5(body)")
        table.execute("UPDATE docs SET body = %s, hash = NULL WHERE id = 5", (long,))
        server.always(longer_than(most))
        chosen = settings(server, provider=TRUNCATE, table={"content_hash": "hash"})
        done = repaired(database, chosen, tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 10, "fixed": 10}
        assert done.reasons(Outcome.FIXED) == {"", note}
        cut = ("seven77 " * kept).rstrip()
        [(stored, digest)] = table.execute("SELECT embedding::text, hash FROM docs WHERE id = 5")
        numbers = [float(number) for number in stored.strip("[]").split(",")]
        assert numbers == pytest.approx(vector_of(cut).tolist(), abs=1e-5)
        assert digest == hashlib.md5(long.encode()).hexdigest()
        assert table.wrong() == [5]  # whose vector is that of the text as it was cut
        assert done.after is not None
        assert done.after.findings == ()


def test_a_text_that_is_refused_in_every_form_is_quarantined(database: str, tmp_path: Path) -> None:
    with docs(database, {"acme": (1, 4)}) as table, ProviderServer() as server:
        table.execute("UPDATE docs SET body = repeat('bad word ', 40) WHERE id = 3")
        server.poison("bad word")
        done = repaired(database, settings(server, provider=TRUNCATE), tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 4, "fixed": 3, "quarantined": 1}
        assert table.wrong() == [3]
        bad = [text for text in server.texts if "bad word" in text]
        assert len(set(bad)) == 3
        assert bad[-2:] == [("bad word " * 10).rstrip(), "bad word bad word bad word bad"]


def test_an_outage_while_a_text_is_shortened_is_no_verdict_on_it(
    database: str, tmp_path: Path
) -> None:
    with docs(database, {"acme": (1, 1)}) as table, ProviderServer() as server:
        table.execute("UPDATE docs SET body = repeat('seven77 ', 30) WHERE id = 2")

        def then_out(request: ReceivedRequest) -> Reply | None:
            (text, *_) = request.texts
            if len(text) > 200:
                return Reply(status=400, error={"message": "too long"})
            return Reply(status=503) if "seven77" in text else None

        server.always(then_out)
        done = repaired(database, settings(server, provider=TRUNCATE), tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 1, "failed": 1}

"""What the fault suite calls broken: each promise, broken on purpose, is told."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.drivers.repairs import key_of
from tests.faults.provider import Received
from tests.faults.racer import Change
from tests.faults.stages.invariants import paid_again, wrong_rows, wrong_texts, wrong_writes
from tests.faults.stages.rows import ZERO, Row, healthy, own_md5, vector_md5

if TYPE_CHECKING:
    from collections.abc import Mapping

WHOLE = Row(
    id=1,
    tenant="acme",
    body="one",
    note="kept",
    vector=vector_md5("one"),
    content_hash=hashlib.md5(b"one").hexdigest(),
    version="(0,1) by 7",
)
FAILING = replace(WHOLE, vector=None)
EDIT = Change(id=1, kind="edit", tenant="acme", body="two", note="kept", made=True)


def rows(*found: Row) -> Mapping[int, Row]:
    return {row.id: row for row in found}


def test_a_row_is_healthy_that_holds_the_vector_of_its_text_and_says_so() -> None:
    assert healthy(WHOLE)
    assert not healthy(FAILING)
    assert not healthy(replace(WHOLE, body="two"))
    assert not healthy(replace(WHOLE, content_hash="x"))


def test_what_is_as_it_was_or_repaired_is_right() -> None:
    assert list(wrong_rows(rows(WHOLE), rows(WHOLE))) == []
    assert list(wrong_rows(rows(FAILING), rows(FAILING))) == []
    assert list(wrong_rows(rows(FAILING), rows(replace(WHOLE, version="(0,2) by 8")))) == []


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (WHOLE, None, "is lost"),
        (None, WHOLE, "appeared"),
        (WHOLE, replace(WHOLE, version="(0,2) by 8"), "was healthy, and was written"),
        (FAILING, replace(WHOLE, note="changed"), "another tenant, text or note"),
        (FAILING, replace(FAILING, vector=vector_md5("two"), version="2"), "is not healthy"),
    ],
)
def test_rows_that_nobody_else_touched(before: Row | None, after: Row | None, words: str) -> None:
    (wrong,) = wrong_rows(
        rows(*filter(None, [before])), rows(*filter(None, [after])), shape="hashed"
    )
    assert words in wrong


@pytest.mark.parametrize(
    ("after", "words"),
    [
        (None, "is lost"),
        (WHOLE, "was overwritten"),
        (replace(WHOLE, body="two", content_hash=hashlib.md5(b"two").hexdigest()), "another text"),
    ],
)
def test_rows_that_were_raced(after: Row | None, words: str) -> None:
    (wrong,) = wrong_rows(rows(WHOLE), rows(*filter(None, [after])), raced=[EDIT])
    assert words in wrong


def test_a_vector_of_the_racer_s_own_must_stay() -> None:
    own = replace(EDIT, body="one", kind="own", own=True)
    theirs = rows(replace(WHOLE, vector=own_md5("one")))
    assert list(wrong_rows(rows(WHOLE), theirs, raced=[own])) == []
    (wrong,) = wrong_rows(rows(WHOLE), rows(WHOLE), raced=[own])
    assert "overwritten" in wrong


def test_an_edit_that_its_hash_tells_of_is_not_hidden_and_without_a_hash_it_is() -> None:
    edited = rows(replace(WHOLE, body="two"))
    assert list(wrong_rows(rows(WHOLE), edited, raced=[EDIT], shape="hashed")) == []
    (wrong,) = wrong_rows(rows(WHOLE), edited, raced=[EDIT], shape="plain")
    assert "nothing tells of it" in wrong
    zero = rows(replace(WHOLE, body="two", vector=ZERO))
    assert list(wrong_rows(rows(WHOLE), zero, raced=[EDIT], shape="plain")) == []


def test_a_vector_that_was_written_to_another_text_for_a_moment() -> None:
    assert list(wrong_writes([(1, "one", vector_md5("one"))])) == []
    (wrong,) = wrong_writes([(1, "two", vector_md5("one"))])
    assert "the vector of another text" in wrong


def test_texts_with_a_foreign_key_and_texts_without_a_reason() -> None:
    owners = {"one": {"acme"}, "two": {"globex"}}

    def told(key: str, *texts: str) -> str:
        received = Received(number=1, key=key, texts=texts, fault=None)
        return "; ".join(wrong_texts([received], rows(WHOLE), owners, raced=False))

    assert told(key_of("acme"), "one") == ""
    assert "never theirs" in told(key_of("globex"), "one")
    assert "nobody's" in told("sk-other", "one")
    assert "no row's" in told(key_of("globex"), "two")
    assert "more than once" in told(key_of("acme"), "one", "one")


def test_only_what_was_paid_both_times_is_paid_again() -> None:
    first = Received(number=1, key="k", texts=("one", "two"), fault=None)
    lost = Received(number=2, key="k", texts=("three",), fault="reset")
    later = Received(number=3, key="k", texts=("one", "two", "three"), fault=None)
    assert paid_again([first, lost], [later], fine={"two"}) == 1

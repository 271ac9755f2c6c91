"""Which healthy rows are chosen, so that their vectors tell one text from another."""

from __future__ import annotations

from remediation.selection.telling_rows import Candidate, telling


def row(key: str, length: int, *traits: int) -> Candidate:
    return Candidate(key=(key,), traits=tuple(map(bool, traits)), length=length)


def chosen(rows: list[Candidate], count: int) -> str:
    return "".join(one.key[0] for one in telling(rows, count))


def test_of_rows_alike_the_shortest_and_the_longest_are_chosen_first() -> None:
    rows = [row(key, length, 1) for key, length in zip("abcdef", (5, 3, 9, 4, 7, 6), strict=True)]
    assert [chosen(rows, count) for count in (1, 2, 3, 9)] == ["b", "bc", "bcd", "bcdeaf"]


def test_a_row_that_alone_has_or_lacks_something_is_chosen() -> None:
    rows = [row("a", 5, 1, 1, 0), row("b", 9, 1, 1, 0), row("c", 3, 1, 0, 0), row("d", 7, 0, 1, 1)]
    assert chosen(rows, 3) == "abdc"


def test_what_tells_more_is_chosen_up_to_twice_as_often_less_one() -> None:
    rows = [row("a", 1, 1, 1, 1, 1), row("b", 9, 1, 1, 1, 1)]
    rows += [row(key, 2, *(i != n for i in range(4))) for n, key in enumerate("cdef")]
    assert [len(chosen(rows, count)) for count in (1, 2, 3, 4, 6)] == [1, 3, 5, 6, 6]

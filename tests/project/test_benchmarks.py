"""docs/performance.md is what the benchmarks write, and nobody else."""

from __future__ import annotations

import re

from bench.__main__ import BENCHMARKS, DOCUMENT, TEMPLATE
from bench.figures import Table, in_turn

PLACE = re.compile(r"\$(\w+)")


def test_the_template_has_a_place_for_each_benchmark() -> None:
    places = PLACE.findall(TEMPLATE.read_text(encoding="utf-8"))
    assert sorted(places) == sorted([*BENCHMARKS, "machine"])


def test_the_prose_of_the_document_is_that_of_the_template() -> None:
    prose = PLACE.split(TEMPLATE.read_text(encoding="utf-8"))[::2]
    written = re.compile(".+".join(map(re.escape, prose)), re.DOTALL)
    assert written.fullmatch(DOCUMENT.read_text(encoding="utf-8")), "make bench writes it"


def test_a_table_is_markdown() -> None:
    assert str(Table(columns=("work", "s"), rows=[("scan", "1.0"), ("plan", "2.0")])) == (
        "| work | s |\n| --- | --- |\n| scan | 1.0 |\n| plan | 2.0 |"
    )


def test_the_sides_of_a_ratio_are_timed_in_turn() -> None:
    seen: list[str] = []

    def side(name: str, *seconds: float) -> float:
        seen.append(name)
        return seconds[seen.count(name) - 1]

    medians = in_turn(
        lambda: side("a", 1.0, 9.0, 2.0),
        lambda: side("b", 4.0, 3.0, 5.0),
        before=lambda: seen.append("emptied"),
    )
    assert medians == (2.0, 4.0)
    assert seen == ["emptied", "a", "emptied", "b"] * 3

"""Runs the benchmarks and writes docs/performance.md: `make bench`.

python -m bench                          all of them, into docs/performance.md
python -m bench scan runs                some, and their tables alone on the terminal
python -m bench --scale 0.02 --to=PATH   a trial at a fraction of the size
"""

from __future__ import annotations

import argparse
from pathlib import Path
from string import Template
from time import perf_counter
from typing import TYPE_CHECKING

from bench import (
    many_failing,
    many_tables,
    parts,
    plan_time,
    repair,
    runs,
    scan,
    second_pass,
)
from bench.machine import load, machine

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.figures import Table

BENCHMARKS: dict[str, Callable[[float], Table]] = {
    "scan": scan.measured,
    "parts": parts.measured,
    "runs": runs.measured,
    "many_tables": many_tables.measured,
    "repair": repair.measured,
    "second_pass": second_pass.measured,
    "many_failing": many_failing.measured,
    "plan_time": plan_time.measured,
}
"""By the names of their places in the template. A new one is a module with `measured`, a line here,
and a place with the prose around it in performance.md beside this file."""
TEMPLATE = Path(__file__).with_name("performance.md")
DOCUMENT = Path(__file__).resolve().parents[1] / "docs" / "performance.md"


def measured(names: list[str], scale: float) -> dict[str, str]:
    """The Markdown of each table, and the machine's load when it was begun. Prints them too."""
    tables = {}
    for name in names:
        before, begun = load(), perf_counter()
        table = BENCHMARKS[name](scale)
        tables[name] = f"{table}\n\nLoad of the machine before: {before}."
        print(f"{name}, {perf_counter() - begun:.0f} s\n\n{tables[name]}\n", flush=True)
    return tables


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("names", nargs="*", metavar="|".join(BENCHMARKS), help="default: all")
    parser.add_argument("--scale", type=float, default=1.0, help="a fraction of the size")
    parser.add_argument("--to", type=Path, default=DOCUMENT, help="where the document goes")
    chosen = parser.parse_args()
    if unknown := set(chosen.names) - BENCHMARKS.keys():
        parser.error(f"expected {', '.join(BENCHMARKS)}, found {', '.join(sorted(unknown))}")
    if chosen.scale != 1.0 and chosen.to == DOCUMENT and not chosen.names:
        parser.error("expected --to=PATH with --scale: the document holds figures of the full size")
    tables = measured(chosen.names or list(BENCHMARKS), chosen.scale)
    if not chosen.names:
        text = Template(TEMPLATE.read_text(encoding="utf-8"))
        chosen.to.write_text(text.substitute(tables, machine=machine()), encoding="utf-8")


if __name__ == "__main__":
    main()

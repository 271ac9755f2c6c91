"""Reads the documentation strings of Python's standard library, as texts that anyone can judge.

Reads source files and imports no module, so nothing can run, open a window or warn.
"""

from __future__ import annotations

import ast
import os
import sysconfig
import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

LEFT_OUT_FOLDERS = frozenset(
    {
        "__pycache__",
        "dist-packages",
        "distutils",  # gone since 3.12
        "encodings",
        "ensurepip",
        "idlelib",
        "lib-dynload",
        "lib2to3",  # gone since 3.13
        "pydoc_data",
        "site-packages",
        "test",
        "tests",
        "tkinter",
        "turtledemo",
    }
)
LEFT_OUT_FILES = frozenset({"antigravity.py", "this.py"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Documented:
    """A documentation string and the qualified name of what it documents."""

    name: str
    docstring: str


@cache
def documentation() -> tuple[Documented, ...]:
    """Every non-blank documentation string of the library, in the order of the qualified names.

    More than 6,000 on each of Python 3.11 to 3.14. A name defined twice (by platform, by version)
    keeps its first text. Texts that PostgreSQL cannot store (NUL, lone surrogates) are left out.
    """
    library = Path(sysconfig.get_path("stdlib"))
    found: dict[str, str] = {}
    for path in _sources(library):
        for name, docstring in _documented_in(path, _module_name(path.relative_to(library))):
            if name not in found and _storable(docstring):
                found[name] = docstring
    return tuple(Documented(name=name, docstring=found[name]) for name in sorted(found))


def _sources(library: Path) -> Iterator[Path]:
    for folder, subfolders, files in os.walk(library):
        subfolders[:] = sorted(
            name
            for name in subfolders
            # `config-3.x-<platform>` holds build scripts, not the library.
            if name not in LEFT_OUT_FOLDERS and not name.startswith("config-")
        )
        for name in sorted(files):
            if name.endswith(".py") and name not in LEFT_OUT_FILES:
                yield Path(folder, name)


def _module_name(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def _documented_in(path: Path, module: str) -> Iterator[tuple[str, str]]:
    with warnings.catch_warnings():
        # Old modules hold escapes that the compiler warns of; they are not ours to report.
        warnings.simplefilter("ignore")
        try:
            tree = ast.parse(path.read_bytes())
        except SyntaxError:  # a template that a distribution put among the modules
            return
    yield from _docstrings(tree, module)


def _docstrings(owner: ast.Module | ast.ClassDef, name: str) -> Iterator[tuple[str, str]]:
    if text := ast.get_docstring(owner):
        yield name, text
    waiting: list[ast.stmt] = list(owner.body)
    while waiting:
        node = waiting.pop(0)
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                if text := ast.get_docstring(node):
                    yield f"{name}.{node.name}", text
            case ast.ClassDef():
                yield from _docstrings(node, f"{name}.{node.name}")
            case ast.If() | ast.Try():  # definitions that depend on the platform
                waiting[:0] = [*node.body, *node.orelse]


def _storable(text: str) -> bool:
    if not text.strip() or "\0" in text:
        return False
    return not any("\ud800" <= letter <= "\udfff" for letter in text)

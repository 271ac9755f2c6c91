"""Takes the frames out of an error, and leaves the places: values stand in frames alone."""

from __future__ import annotations

import traceback
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import psycopg

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Error = TypeVar("Error", bound=BaseException)


Arguments = ParamSpec("Arguments")
Returned = TypeVar("Returned")

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("checks", "remediation", "reports", "demo", "embedding_integrity")
OURS = tuple(ROOT / package for package in PACKAGES)
"""The folders of the packages whose frames may hold texts of rows and keys."""


def bare(function: Callable[Arguments, Returned]) -> Callable[Arguments, Returned]:
    """Have a function raise whatever it raises without frames; for what is called from outside."""

    @wraps(function)
    def called(*arguments: Arguments.args, **named: Arguments.kwargs) -> Returned:
        try:
            return function(*arguments, **named)
        except BaseException as error:
            raised = forget_frames(error)
        # This frame is shown, and a URL may be among what was handed over.
        del arguments, named
        raise raised

    return called


def forget_frames(error: Error) -> Error:
    """The same error without the frames of its traceback, if one of them is ours.

    Where they were is added as a note: file, line and function. So it is with its causes. Of what
    the database says, which may quote a row, the class and the SQLSTATE are left.
    """
    chain = list(_chain(error))
    frames = [frame for each in chain for frame in traceback.extract_tb(each.__traceback__)]
    files = {Path(frame.filename) for frame in frames}
    if not any(file.is_relative_to(folder) for file in files for folder in OURS):
        return error
    for each in chain:
        for frame in traceback.extract_tb(each.__traceback__):
            each.add_note(f"{frame.filename}:{frame.lineno} in {frame.name}")
        each.__traceback__ = None
        if isinstance(each, psycopg.Error):
            each.args = (f"the database refused: {type(each).__name__} ({each.sqlstate})",)
    return error


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, its causes and contexts, and what a group holds, each once."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions

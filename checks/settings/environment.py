"""Reads the environment of a run: the process's variables over what a `.env` file holds; and says
which files they name.

Shows no value, not even in a traceback: some are passwords and keys. Changes no variable.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import StringIO
from typing import TYPE_CHECKING

from dotenv.main import DotEnv

from checks.errors import IntegrityError

if TYPE_CHECKING:
    from pathlib import Path


LARGEST_FILE = 100_000
"""Bytes of a `.env`, and of all that its values name: each may name one that names others twice."""

_REFERENCE = re.compile(r"\$\{([^}:${]{0,100})(?::-([^}]{0,1000}))?\}")
"""`${NAME}` or `${NAME:-default}`, as python-dotenv reads it, which copies all values for each."""


class EnvironmentFileError(IntegrityError):
    """A `.env` file cannot be read; the message shows nothing of it."""


class Environment(Mapping[str, str]):
    """Variables by name. Its repr tells only how many there are."""

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = dict(variables)

    def __getitem__(self, name: str) -> str:
        return self._variables[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)

    def __repr__(self) -> str:
        return f"<{len(self)} environment variables>"


def read_environment(folders: Sequence[Path]) -> Environment:
    """The environment over the first `.env` among the folders.

    A folder of that name is none: it may be a virtual environment. Raises `EnvironmentFileError`
    for a file that is no UTF-8 text, that is larger than such a file is, or that cannot be read.
    """
    found = next((path / ".env" for path in folders if (path / ".env").is_file()), None)
    trouble, text = None, ""
    try:
        written = _start_of(found) if found else b""
        if len(written) > LARGEST_FILE:
            trouble = f"is expected to have at most {LARGEST_FILE:,} bytes, and has more"
        elif b"\0" in written:  # UTF-16, for one
            trouble = "is not text, as it holds a NUL character"
        else:
            # A byte order mark, as some editors write it, would be part of the first name.
            text = written.decode("utf-8-sig")
    except UnicodeDecodeError:
        trouble = "is not UTF-8"
    except OSError as error:
        trouble = f"cannot be read ({error.strerror})"
    if trouble is not None:
        # Raised out here: the decoder's error holds the file's bytes.
        raise EnvironmentFileError(f"{found} {trouble}; save it as UTF-8 text, or remove it")
    from_file = _filled(DotEnv(None, stream=StringIO(text), interpolate=False).parse())
    if from_file is None:
        raise EnvironmentFileError(
            f"{found} names so many values in others that they grow beyond {LARGEST_FILE:,}"
            " characters; write them out, or remove it"
        )
    return Environment({**from_file, **os.environ})


def _filled(written: Iterable[tuple[str, str | None]]) -> dict[str, str] | None:
    """The values with those in them that they name; None where these grow too large."""
    filled: dict[str, str] = {}
    size = 0

    def named(reference: re.Match[str]) -> str:
        name, otherwise = reference.groups(default="")
        return filled.get(name, os.environ.get(name, otherwise))

    for name, value in written:
        size += sum(len(named(one)) for one in _REFERENCE.finditer(value or ""))
        if size > LARGEST_FILE:
            return None
        filled[name] = _REFERENCE.sub(named, value or "")
    return filled


def _start_of(path: Path) -> bytes:
    """The file, or one byte more of it than is allowed. Raises OSError."""
    with path.open("rb") as file:
        return file.read(LARGEST_FILE + 1)


def settings_file(
    named: str | None, environment: Mapping[str, str], folders: Sequence[Path]
) -> Path:
    """The named file, else that of INTEGRITY_CONFIG, else the folders' first integrity.toml.

    Names start at the first folder. Where no folder has one, it is the first one's that is absent.
    """
    if named := named or environment.get("INTEGRITY_CONFIG"):
        return folders[0] / named
    paths = [folder / "integrity.toml" for folder in folders]
    return next((path for path in paths if path.is_file()), paths[0])


def report_directory(named: str | None, environment: Mapping[str, str], folder: Path) -> Path:
    """Where reports go: as named, else INTEGRITY_REPORT_DIR, else `incidents`, from the folder."""
    return folder / (named or environment.get("INTEGRITY_REPORT_DIR") or "incidents")

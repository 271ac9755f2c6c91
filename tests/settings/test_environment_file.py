"""A `.env` as editors, shells and accidents leave it: it is understood, or refused in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from checks.settings.environment import LARGEST_FILE, EnvironmentFileError, read_environment

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "s3cr3t-of-the-file"


@pytest.mark.parametrize(
    "written",
    [
        f"FIRST_NAME={SECRET}\n".encode("utf-8-sig"),
        f"FIRST_NAME={SECRET}\r\nOTHER=1\r\n".encode(),
        f"export FIRST_NAME={SECRET}".encode(),
        f"FIRST_NAME='{SECRET}'  # as it was\n".encode(),
        f'\n# why\nFIRST_NAME = "{SECRET}"\n'.encode(),
        f"a line for another program\nFIRST_NAME={SECRET}\n".encode(),
        f"FIRST_NAME=old\nFIRST_NAME={SECRET}\n".encode(),
        f"A={SECRET[:4]}\nFIRST_NAME=${{A}}{SECRET[4:-1]}${{NOWHERE_SET:-{SECRET[-1]}}}".encode(),
        b"A=$\n" * 20_000 + f"FIRST_NAME={SECRET}".encode(),
        b"A=" + b"${" * 40_000 + f"\nFIRST_NAME={SECRET}".encode(),
    ],
    ids=[
        *("a mark", "CRLF", "export", "quotes", "spaces", "other lines", "twice"),
        *("names", "many lines", "many braces"),
    ],
)
def test_it_is_understood_as_editors_and_shells_write_it(tmp_path: Path, written: bytes) -> None:
    (tmp_path / ".env").write_bytes(written)
    assert read_environment([tmp_path])["FIRST_NAME"] == SECRET


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (f"FIRST_NAME={SECRET}\n".encode("utf-16"), "holds a NUL character"),
        (f"FIRST_NAME={SECRET}\n".encode("utf-16-le"), "holds a NUL character"),
        (f"FIRST_NAME={SECRET}\xff\n".encode("latin-1"), "is not UTF-8"),
        (f"FIRST_NAME={SECRET}\0\n".encode(), "holds a NUL character"),
        (f"FIRST_NAME={SECRET}\n".encode() * LARGEST_FILE, "at most 100,000 bytes"),
        (b"FIRST_NAME=" + "\N{EURO SIGN}".encode() * LARGEST_FILE, "at most 100,000 bytes"),
        (f"A={SECRET}\n".encode() + b"A=${A}${A}\nB=${A}${A}\nA=${B}${B}\n" * 99, "grow beyond"),
    ],
    ids=[
        *("UTF-16", "UTF-16 without a mark", "Latin-1", "NUL", "huge", "huge within a letter"),
        "values in values",
    ],
)
def test_what_is_no_such_file_is_refused_without_a_word_of_it(
    tmp_path: Path, written: bytes, words: str
) -> None:
    (tmp_path / ".env").write_bytes(written)
    with pytest.raises(EnvironmentFileError) as caught:
        read_environment([tmp_path])
    assert words in str(caught.value)
    assert SECRET not in str(caught.value)
    assert caught.value.__context__ is None


def test_a_folder_or_a_link_to_nowhere_is_none(tmp_path: Path) -> None:
    (tmp_path / "a" / ".env").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / ".env").symlink_to("nowhere")
    (tmp_path / ".env").write_text("FIRST_NAME=1")
    assert read_environment([tmp_path / "a", tmp_path / "b", tmp_path])["FIRST_NAME"] == "1"

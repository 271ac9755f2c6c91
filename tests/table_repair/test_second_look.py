"""What the probe does where healthy rows nearly agree: the same text, or another one?"""

from __future__ import annotations

import tomllib
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from checks.discovery.entries import toml
from remediation.table_repair.probing.second_look import VARIANT_TEXTS
from tests.drivers.repairs import docs, environment, repaired, settings
from tests.servers.nearby_texts import DIMENSIONS, NearServer, near_literal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from checks.settings.integrity_toml import Settings
    from tests.drivers.repairs import Docs

KEYS = environment("acme")
SENTENCE = "a parcel that was left with the neighbour is found again by its number"


@contextmanager
def articles(
    database: str, text_of: Callable[[str, str], str], *, sentences: int = 3, missing: int = 3
) -> Iterator[Docs]:
    """Fifteen rows embedded as an application's `text_of` has it, then some without a vector."""
    with docs(database, {}, f"vector({DIMENSIONS})") as table:
        table.execute("ALTER TABLE docs ADD title text")
        for number in range(15 + missing):
            title = f"Parcel {number} of May"
            body = "\n".join(f"{SENTENCE} {number * 7 + i}" for i in range(sentences))
            table.execute(
                "INSERT INTO docs (id, tenant, title, body, embedding) VALUES (%s, %s, %s, %s, %s)",
                (
                    number,
                    "acme",
                    title,
                    body,
                    near_literal(text_of(title, body)) if number < 15 else None,
                ),
            )
        yield table


def near_settings(server: NearServer, text: str, **repair: object) -> Settings:
    return settings(
        server,
        provider={"dimensions": DIMENSIONS, "batch_size": 50},
        table={"text": text, "checks": {"uniqueness": {"enabled": False}}},
        repair=repair,
    )


@pytest.mark.parametrize(
    ("sentences", "text_of", "declared", "right"),
    [
        (
            60,
            lambda title, body: f"{title}: {body}",
            "concat_ws(E'\\n', title, body)",
            "concat_ws(': ', title, body)",
        ),
        (
            3,
            lambda _, body: body.replace("\n", " "),
            "body",
            "replace(body, E'\\n', ' ')",
        ),
        (
            8,
            lambda title, body: f"{title}. {body}",
            "body",
            "concat_ws('. ', title, body)",
        ),
        (3, lambda _, body: body, r"replace(body, E'\n', ' ')", "body"),
        (
            3,
            lambda title, body: f"{title} {body}",
            "\nlower(concat_ws(' ', title, body))\n",
            "concat_ws(' ', title, body)",
        ),
        (40, lambda _, body: body.lower()[:500], "lower(body)", "left(lower(body), 500)"),
        (60, lambda _, body: f"passage: {body}", "body", "'passage: ' || (body)"),
        (
            60,
            lambda title, body: f"Title: {title}\nBody: {body}",
            "concat_ws(E'\\n\\n', title, body)",
            "concat_ws(E'\\n', 'Title: ' || title, 'Body: ' || body)",
        ),
        (
            60,
            lambda title, body: f"title: {title} | text: {body}",
            "concat_ws(E'\\n\\n', title, body)",
            "'title: ' || coalesce(title, 'none') || ' | text: ' || body",
        ),
    ],
)
def test_a_nearly_right_text_is_refused_with_the_line_to_paste(
    database: str,
    tmp_path: Path,
    sentences: int,
    text_of: Callable[[str, str], str],
    declared: str,
    right: str,
) -> None:
    with articles(database, text_of, sentences=sentences) as table, NearServer() as server:
        versions = table.versions()
        done = repaired(database, near_settings(server, declared), tmp_path, keys=KEYS)
        assert done.docs.stopped is not None
        assert table.versions() == versions
        pasted = "text = " + done.docs.stopped.partition("text = ")[2].split("), so the model")[0]
        assert tomllib.loads(pasted) == {"text": right}
        assert sum(len(r.texts) for r in server.requests) <= 3 + 24 + VARIANT_TEXTS
        (planned,) = done.plan.tables
        assert len(server.requests) <= planned.probe_requests + planned.second_look[0] == 1 + 6

        again = repaired(database, near_settings(server, right), tmp_path, keys=KEYS)
        assert again.docs.stopped is None
        assert again.counts() == {"selected": 3, "fixed": 3}


@pytest.mark.parametrize("noise", [1e-5, 2e-4])
def test_a_model_s_own_noise_is_no_reason_to_refuse(
    database: str, tmp_path: Path, noise: float
) -> None:
    with articles(database, lambda _, body: body) as table, NearServer(noise) as server:
        done = repaired(database, near_settings(server, "body"), tmp_path, keys=KEYS)
        assert done.counts() == {"selected": 3, "fixed": 3}
        # The probe, the same twelve texts twice, no variant, the rows.
        assert [len(r.texts) for r in server.requests] == [3, 12, 12, 3]
        assert table.execute("SELECT count(*) FROM docs WHERE embedding IS NULL") == [(0,)]


def test_short_rows_tell_another_text_that_is_no_common_variant(
    database: str, tmp_path: Path
) -> None:
    """Of long ones alone it might be the server's other way to compute."""

    def marked(title: str, body: str) -> str:
        return f"<title>{title}</title> {body}"

    with articles(database, marked, sentences=60) as table, NearServer() as server:
        for number in (2, 4, 5):
            text = f"a note {number} of few words"
            table.execute(
                "UPDATE docs SET body = %s, embedding = %s WHERE id = %s",
                [text, near_literal(marked(f"Parcel {number} of May", text)), number],
            )
        versions = table.versions()
        chosen = near_settings(server, "concat_ws(E'\\n', title, body)")
        assert repaired(database, chosen, tmp_path, keys=KEYS).docs.stopped is not None
        assert table.versions() == versions


def test_noise_explains_no_other_separator_in_a_text(database: str, tmp_path: Path) -> None:
    with (
        articles(database, lambda title, body: f"{title}\n\n{body}") as table,
        NearServer(1e-5) as server,
    ):
        versions = table.versions()
        declared = "concat_ws(' ', title, body)"
        done = repaired(database, near_settings(server, declared), tmp_path, keys=KEYS)
        assert r"concat_ws(E'\\n\\n', title, body)" in str(done.docs.stopped)
        assert table.versions() == versions


def test_a_repair_may_be_told_what_is_near_enough(database: str, tmp_path: Path) -> None:
    with articles(database, lambda _, body: body + "\n") as _, NearServer() as server:
        chosen = near_settings(server, "body", probe_min_cosine=0.99)
        assert repaired(database, chosen, tmp_path, keys=KEYS).counts() == {
            "selected": 3,
            "fixed": 3,
        }
        assert len(server.requests) == 2


@pytest.mark.parametrize("declared", ["concat_ws(E'\\n\\n', title, body)", "body"])
def test_rows_with_all_parts_of_a_text_are_probed_where_most_lack_one(
    database: str, tmp_path: Path, declared: str
) -> None:
    def joined(title: str, body: str) -> str:
        return f"{title}: {body}"

    with articles(database, joined, sentences=8) as table, NearServer() as server:
        for number, body in table.execute("SELECT id, body FROM docs WHERE id BETWEEN 2 AND 14"):
            table.execute(
                "UPDATE docs SET title = NULL, embedding = %s WHERE id = %s",
                [near_literal(body), number],
            )
        done = repaired(database, near_settings(server, declared), tmp_path, keys=KEYS)
        assert "text = \"concat_ws(': ', title, body)\"" in str(done.docs.stopped)
        assert server.requests[0].texts[0].startswith(("Parcel ", SENTENCE))
        right = near_settings(server, "concat_ws(': ', title, body)")
        assert repaired(database, right, tmp_path, keys=KEYS).counts() == {
            "selected": 3,
            "fixed": 3,
        }


@pytest.mark.parametrize("part", ["meta ->> 'motto'", "kicker"])
def test_a_row_with_what_others_lack_is_probed_whatever_it_is_called(
    database: str, tmp_path: Path, part: str
) -> None:
    """One row in fifteen has more than its text in its vector, as those to repair may have."""
    with articles(database, lambda _, body: body) as table, NearServer() as server:
        table.execute("ALTER TABLE docs ADD kicker text, ADD meta jsonb")
        table.execute("""UPDATE docs SET meta = '{"page": 1, "motto": null}' WHERE id > 2""")
        table.execute("""UPDATE docs SET meta = '"no object"' WHERE id = 2""")
        table.execute(
            "UPDATE docs SET kicker = %s, meta = %s, embedding = %s WHERE id = 5",
            ["A word", None, near_literal(f"A word\n{SENTENCE}")]
            if part == "kicker"
            else [None, '{"page": 1, "motto": "A word"}', near_literal(f"A word\n{SENTENCE}")],
        )
        table.execute("UPDATE docs SET body = %s WHERE id = 5", [SENTENCE])
        versions = table.versions()
        done = repaired(database, near_settings(server, "body"), tmp_path, keys=KEYS)
        assert "the probe refused" in str(done.docs.stopped)
        assert table.versions() == versions
        right = near_settings(server, f"concat_ws(E'\\n', {part}, body)")
        assert repaired(database, right, tmp_path, keys=KEYS).docs.stopped is None


@pytest.mark.parametrize(
    ("telling", "text_of", "right"),
    [
        (
            "first line\nsecond line",
            lambda body: body.replace("\n", " "),
            r"replace(body, E'\n', ' ')",
        ),
        ("a  note with an end \t", str.strip, r"btrim(body, E' \t\r\n')"),
        (" ".join(map(str, range(900))), lambda body: body[:2_000], "left(body, 2000)"),
        (
            "two  spaces",
            lambda body: " ".join(body.split()),
            r"btrim(regexp_replace(body, '\s+', ' ', 'g'))",
        ),
    ],
)
def test_the_one_row_that_tells_another_text_is_probed(
    database: str, tmp_path: Path, telling: str, text_of: Callable[[str], str], right: str
) -> None:
    """Rows that fail may have what hardly any healthy one has."""
    with docs(database, {}, f"vector({DIMENSIONS})") as table, NearServer() as server:
        for number in range(40):
            plain = f"{SENTENCE} {number * 7}"
            body = telling if number in (9, 39) else plain
            vector = near_literal(text_of(body)) if number < 39 else None
            table.execute(
                "INSERT INTO docs (id, tenant, body, embedding) VALUES (%s, 'acme', %s, %s)",
                (number, body, vector),
            )
        versions = table.versions()
        done = repaired(database, near_settings(server, "body"), tmp_path, keys=KEYS)
        assert f"text = {toml(right)}" in str(done.docs.stopped)
        assert table.versions() == versions


@pytest.mark.parametrize(
    ("body", "sent", "words"),
    [
        (
            "Fish &amp;amp; chips&nbsp;{} &lt;b&gt; {}",
            "Fish &amp; chips\u00a0{} <b> {}",
            "HTML's entities decoded",
        ),
        ("<p>Fish <b>and</b>: {} {}</p>", "Fish and: {} {}", "without HTML's tags"),
        (
            "<ul><li>{}</li>\n<li>chips &amp; peas {}</li></ul>",
            "{} chips & peas {}",
            "HTML's tags to spaces, entities decoded, white space squeezed",
        ),
        (
            "# Fish\n\n> **chips**, {} and [peas](https://peas.example/a_b) `{}`",
            "Fish\n\nchips, {} and peas {}",
            "without Markdown's marks",
        ),
    ],
)
def test_a_text_without_the_marks_of_its_source_is_found(
    database: str, tmp_path: Path, body: str, sent: str, words: str
) -> None:
    with docs(database, {}, f"vector({DIMENSIONS})") as table, NearServer() as server:
        for number in range(15):
            # Every third is a text without marks.
            own = sent if number % 3 == 0 and "&" not in sent else body
            right = near_literal(sent.format(SENTENCE, number * 7))
            table.execute(
                "INSERT INTO docs (id, tenant, body, embedding) VALUES (%s, 'acme', %s, %s)",
                (number, own.format(SENTENCE, number * 7), right if number < 13 else None),
            )
        done = repaired(database, near_settings(server, "body"), tmp_path, keys=KEYS)
        told = str(done.docs.stopped)
        assert f"another text agrees better ({words}: 1.000000 to 1.000000" in told
        assert sum(len(r.texts) for r in server.requests) <= 3 + 24 + VARIANT_TEXTS
        pasted = tomllib.loads("text = " + told.partition("text = ")[2].split("), so the model")[0])
        again = repaired(database, near_settings(server, pasted["text"]), tmp_path, keys=KEYS)
        assert again.counts() == {"selected": 2, "fixed": 2}
        far = f"embedding <=> '{right}' > 1e-6 FROM docs WHERE id = 14"
        assert table.execute(f"SELECT {far}") == [(False,)]


@pytest.mark.parametrize("missing", ["", "None"])
def test_what_stands_for_a_title_that_is_missing_is_found(
    database: str, tmp_path: Path, missing: str
) -> None:
    def filled(title: str | None, body: str) -> str:
        return f"{missing if title is None else title}\n{body}"

    with articles(database, filled) as table, NearServer() as server:
        for number, body in table.execute("SELECT id, body FROM docs WHERE id IN (4, 8, 15)"):
            vector = near_literal(filled(None, body)) if number < 15 else None
            table.execute(
                "UPDATE docs SET title = NULL, embedding = %s WHERE id = %s", [vector, number]
            )
        declared = r"concat_ws(E'\n', title, body)"
        done = repaired(database, near_settings(server, declared), tmp_path, keys=KEYS)
        right = rf"concat_ws(E'\n', coalesce(title, '{missing}'), body)"
        assert f"text = {toml(right)}" in str(done.docs.stopped)

"""A disk that fills up under a repair: it stops, and has overwritten nothing it cannot undo."""

from __future__ import annotations

import base64
import json

import psycopg

from tests.drivers.runs import MISSING, ROWS, SECONDS, TENANTS, Site, fill, missing, stale

pytest_plugins = ("pytester",)

MOST_BYTES = 100_000
"""Of any file that the run writes: about eleven vectors in the journal, and a whole report."""


def vectors(url: str) -> dict[str, bytes | None]:
    """Every row's vector in its binary form, by key."""
    with psycopg.connect(url) as connection:
        return dict(
            connection.execute(
                "SELECT id::text, vector_send(embedding) FROM public.insights"
            ).fetchall()
        )


def test_a_repair_ends_with_the_disk_and_the_next_one_takes_up_the_rest(
    provided_site: Site,
) -> None:
    site = provided_site
    fill(site.database, dict.fromkeys(TENANTS, ROWS), missing=0)
    with psycopg.connect(site.database, autocommit=True) as connection:
        connection.execute(
            "UPDATE public.insights SET embedding = array_fill(0, ARRAY[1536])::vector"
            f" WHERE id % {ROWS} < {2 * MISSING}"
        )
    before = vectors(site.database)
    with site.start("--remediate", largest_file=MOST_BYTES) as run:
        assert run.wait(SECONDS) == 11, run.printed()
    assert (
        "public.insights: the repair stopped early: the journal cannot be written (File too large);"
        " nothing is replaced without it"
    ) in run.printed()
    (folder,) = (site.folder / "incidents").glob("*/")
    kept = {}
    for line in (folder / "journal.jsonl").read_bytes().splitlines():
        if b'"replacing"' in line[:30] and line.endswith(b"}"):
            event = json.loads(line)
            kept[event["key"][0]] = base64.b64decode(event["vector"])
    after = vectors(site.database)
    changed = {key for key in before if after[key] != before[key]}
    assert 0 < len(changed) < 3 * 2 * MISSING
    assert {key: kept.get(key) for key in changed} == {key: before[key] for key in changed}
    # What was overwritten can be put back, and taken up again.
    assert site.run(f"--rollback={folder.name}").status == 1
    assert vectors(site.database) == before
    again = site.run("--remediate")
    assert again.status == 0, again.output
    assert missing(site.database) == {}
    assert stale(site.database) == []

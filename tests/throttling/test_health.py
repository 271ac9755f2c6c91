"""What a repair waits for, seen on a real primary with a real standby, and on a real disk."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import psycopg
import pytest

from checks.database.connection_url import parse_url
from checks.settings.integrity_toml import RepairLimits
from remediation.throttling.health import Health
from tests.drivers.repairs import meanwhile
from tests.servers.standby import (
    SYSTEM_USER,
    Standby,
    follow,
    followed_database,
    primary_url,
    running_program,
    standby,
)
from tests.waiting import wait_until

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from remediation.throttling.wait_reasons import WaitReason

__all__ = ["followed_database", "primary_url", "standby"]

LAG: dict[str, Any] = {"max_replication_lag": "300ms"}
RATE: dict[str, Any] = {"max_wal_rate": "1MB/s"}


@contextlib.contextmanager
def health(url: str, folder: Path = Path(), **limits: Any) -> Iterator[Health]:
    place = parse_url(url, variable="DATABASE_URL")
    watched = Health(RepairLimits.model_validate(limits), place, folder=folder)
    try:
        yield watched
    finally:
        watched.close()


def known(watched: Health) -> WaitReason | None:
    """What is seen once everything is measured."""
    found: list[WaitReason | None] = []

    def measured() -> bool:
        found.append(watched.look())
        return found[-1] is None or not found[-1].expected

    wait_until(measured)
    return found[-1]


def held(watched: Health) -> WaitReason:
    """The first reason to wait that comes up."""
    found: list[WaitReason] = []

    def seen() -> bool:
        found.extend(filter(None, [known(watched)]))
        return bool(found)

    wait_until(seen)
    return found[0]


def write(url: str, kilobytes: int = 1) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        # Else it is written some time after its commit.
        connection.execute("SET synchronous_commit = on")
        connection.execute(
            "SELECT pg_logical_emit_message(true, 'test', repeat('x', 1024 * %s))", (kilobytes,)
        )


def test_without_a_limit_nothing_is_looked_at() -> None:
    with health("postgresql://nobody@127.0.0.1:9/nothing") as watched:
        assert not watched.limited
        assert watched.look() is None


def test_a_standby_that_keeps_up_holds_nothing_up(standby: Standby) -> None:
    with health(standby.primary, **LAG) as watched:
        for _ in range(5):
            write(standby.primary)
            assert known(watched) is None


def test_a_standby_that_does_not_replay_is_seen_and_forgiven_once_it_does(
    standby: Standby,
) -> None:
    with health(standby.primary, **LAG) as watched:
        assert known(watched) is None
        standby.pause()
        write(standby.primary)
        hold = held(watched)
        assert hold.reason.startswith("standby 'walreceiver' is ")
        assert hold.reason.endswith(" s behind, more than 0.3 s ([repair] max_replication_lag)")
        standby.catch_up()
        assert known(watched) is None


def test_a_standby_that_stood_still_before_we_came_is_not_taken_for_a_fast_one(
    standby: Standby,
) -> None:
    standby.pause()
    write(standby.primary)
    with health(standby.primary, **LAG) as watched:
        first = watched.look()
        assert first is not None
        assert first.expected
        hold = known(watched)
        assert hold is not None
        assert "behind, more than 0.3 s" in hold.reason
    standby.catch_up()


def test_a_role_that_may_not_see_the_standbys_is_told_what_to_grant(standby: Standby) -> None:
    with psycopg.connect(standby.primary, autocommit=True) as connection:
        connection.execute("CREATE ROLE \"re pair\" LOGIN PASSWORD 'Zq7vT2mX'")
        try:
            role_and_password = urlsplit(standby.primary).netloc.rpartition("@")[0]
            url = standby.primary.replace(role_and_password, "re%20pair:Zq7vT2mX")
            with health(url, **LAG) as watched:
                hold = known(watched)
                assert hold is not None
                assert hold.reason == (
                    "role 're pair' may not see how far the standbys are behind;"
                    ' GRANT pg_monitor TO "re pair", or leave max_replication_lag out'
                )
                connection.execute('GRANT pg_monitor TO "re pair"')
                assert known(watched) is None
        finally:
            connection.execute('DROP ROLE "re pair"')


def test_a_role_without_rights_sees_that_there_is_no_standby(followed_database: str) -> None:
    with psycopg.connect(followed_database, autocommit=True) as connection:
        connection.execute("CREATE ROLE plain LOGIN PASSWORD 'Zq7vT2mX'")
        try:
            role_and_password = urlsplit(followed_database).netloc.rpartition("@")[0]
            url = followed_database.replace(role_and_password, "plain:Zq7vT2mX")
            with health(url, **LAG, max_wal_rate="9GB/s") as watched:
                assert known(watched) is None
        finally:
            connection.execute("DROP ROLE plain")


def test_an_archive_and_a_logical_subscriber_are_no_standbys(followed_database: str) -> None:
    password = urlsplit(followed_database).password
    senders = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"
    with (
        tempfile.TemporaryDirectory(prefix="pg-") as folder,
        psycopg.connect(followed_database, autocommit=True) as connection,
    ):
        if SYSTEM_USER is not None:
            Path(folder).chmod(0o777)
        connection.execute("SELECT pg_create_logical_replication_slot('changes', 'pgoutput')")
        connection.execute("CREATE PUBLICATION everything FOR ALL TABLES")
        # It confirms once an hour, as a subscriber may.
        options = "--start -d followed -S changes -f /dev/null -s 3600 -F 0"
        options += " -o proto_version=1 -o publication_names=everything"
        try:
            with (
                running_program(
                    "pg_receivewal",
                    ["-D", folder, "--no-sync", *follow(followed_database)],
                    password,
                ),
                running_program(
                    "pg_recvlogical",
                    [*options.split(), *follow(followed_database)],
                    password,
                ),
            ):
                wait_until(lambda: connection.execute(senders).fetchone() == (2,))
                write(followed_database)
                with health(followed_database, **LAG) as watched:
                    for _ in range(5):
                        assert known(watched) is None
                        connection.execute("SELECT pg_sleep(0.1)")
                behind = connection.execute(
                    "SELECT count(*) FROM pg_stat_replication"
                    " WHERE replay_lsn IS NULL OR replay_lsn < pg_current_wal_lsn()"
                ).fetchone()
                assert behind == (2,)
        finally:
            slots = "SELECT count(*) FROM pg_replication_slots WHERE active"
            wait_until(lambda: connection.execute(slots).fetchone() == (0,))
            connection.execute("SELECT pg_drop_replication_slot('changes')")


def test_the_log_that_others_write_counts_until_they_stop(database: str) -> None:
    def write_on(stop: threading.Event) -> None:
        while not stop.wait(0.01):
            write(database, kilobytes=256)

    with health(database, **RATE) as watched:
        first = watched.look()
        assert first is not None
        assert first.expected
        with meanwhile(write_on):
            hold = held(watched)
        assert " MB of write-ahead log per second, more than 1 MB" in hold.reason
        wait_until(lambda: known(watched) is None)


def test_a_connection_that_is_lost_is_opened_again(database: str) -> None:
    with psycopg.connect(database, autocommit=True) as other, health(database, **LAG) as watched:
        assert known(watched) is None
        other.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        assert known(watched) is None


def test_a_server_that_is_not_there_is_a_reason_to_wait() -> None:
    with health("postgresql://nobody:Zq7vT2mX@127.0.0.1:9/nothing", **LAG) as watched:
        hold = watched.look()
    assert hold is not None
    assert "cannot connect to database 'nothing' at 127.0.0.1:9" in hold.reason
    assert "Zq7vT2mX" not in hold.reason


def test_the_pause_file_is_looked_for_in_the_folder_the_run_was_started_from(
    tmp_path: Path,
) -> None:
    url = "postgresql://nobody@127.0.0.1:9/nothing"  # no file needs a server
    with health(url, tmp_path, pause_file="pause") as watched:
        assert watched.limited
        assert watched.look_for_file() is None
        (tmp_path / "pause").touch()
        hold = watched.look_for_file()
        assert hold is not None
        assert hold.reason == f"the file {tmp_path / 'pause'} exists; remove it to go on"
        (tmp_path / "pause").unlink()
        assert watched.look_for_file() is None
        (tmp_path / "pause").symlink_to("nowhere")
        assert watched.look_for_file() is not None


@pytest.mark.parametrize("name", ["loop/pause", "file/pause", "x" * 300])
def test_a_pause_file_that_cannot_be_looked_for_is_a_reason_to_wait(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "file").touch()
    with health("postgresql://nobody@127.0.0.1:9/nothing", tmp_path, pause_file=name) as watched:
        hold = watched.look_for_file()
    assert hold is not None
    assert hold.reason.startswith("it cannot be seen whether the file ")

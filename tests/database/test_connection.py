"""Connection URLs in the forms people have them, and what a scan's transaction promises."""

from __future__ import annotations

import socket
import threading
from datetime import timedelta

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from checks.database.connection import ConnectionTarget, connect, read_only
from checks.database.connection_url import parse_url
from checks.database.open_sockets import within
from checks.errors import CannotExamineError, ConnectionUrlError
from tests.builders.tables import role

MINUTE = timedelta(minutes=1)


def parsed(url: str) -> dict[str, str]:
    return dict(parse_url(url, variable="DATABASE_URL").parameters)


COMPLETE = {"user": "app", "password": "s3cret!", "host": "db", "port": "6432", "dbname": "main"}


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://app:s3cret!@db:6432/main",
        "postgres://app:s3cret!@db:6432/main",
        "POSTGRESQL://app:s3cret!@db:6432/main",
        "  postgresql://app:s3cret!@db:6432/main\n",
        "postgresql://app:s3cret%21@db:6432/main",
        "postgresql+psycopg2://app:s3cret!@db:6432/main",
        "postgresql+asyncpg://app:s3cret!@db:6432/main",
        "postgresql+psycopg_async://app:s3cret!@db:6432/main",
        "timescaledb://app:s3cret!@db:6432/main",
        "pgsql:host=db;port=6432;dbname=main;user=app;password=s3cret!",
        "postgresql://app:s3cret!@db:6432/main?pgbouncer=true&connection_limit=1&pool_timeout=0",
        "host=db port=6432 dbname=main user=app password='s3cret!'",
        "postgresql://db:6432/main?user=app&password=s3cret!",
        "postgis://app:s3cret!@db:6432/main",
        "pgsql://app:s3cret!@db:6432/main",
        "ecto://app:s3cret!@db:6432/main?pool_size=10",
        "'postgresql://app:s3cret!@db:6432/main'",
        "jdbc:postgresql://db:6432/main?user=app&password=s3cret%21&prepareThreshold=0",
        "r2dbc:postgresql://app:s3cret!@db:6432/main",
        "postgresql+psycopg://app:s3cret!@/main?host=db:6432",
        "postgresql+asyncpg://app:s3cret!@db:6432/main?command_timeout=60&what_comes_next=1",
        "pgx5://app:s3cret!@db:6432/main?pool_max_conns=10",
        "jdbc:aws-wrapper:postgresql://db:6432/main?user=app&password=s3cret!",
        "r2dbc:pool:postgresql://app:s3cret!@db:6432/main",
        "host=db user=app password=s3cret! dbname=main port=6432 TimeZone=Asia/Shanghai",
        "host=db user=app password='s3cret!' dbname = main port=6432 pool_max_conns=5",
        "Host=db;Port=6432;Username=app;Password=s3cret!;Database=main",
        "Server=db;Port=6432;User Id=app;Password='s3cret!';Database=main;Pooling=true;",
        'host = db; port = 6432; uid = app; pwd = "s3cret!"; database = main; Command Timeout = 30',
        "Database=main;Server=db:6432;User ID=app;Password=s3cret!;Something New=1",
    ],
)
def test_libpq_s_and_prisma_s_and_sqlalchemy_s_forms_mean_the_same(url: str) -> None:
    assert parsed(url) == COMPLETE


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("postgresql:///main?host=/run/postgresql", "/run/postgresql"),
        ("postgresql://%2Frun%2Fpostgresql/main", "/run/postgresql"),
        ("postgresql+psycopg2:///main?host=/run/postgresql", "/run/postgresql"),
        ("host=/run/postgresql dbname=main", "/run/postgresql"),
    ],
)
def test_a_unix_socket_is_a_host(url: str, host: str) -> None:
    assert parsed(url) == {"host": host, "dbname": "main"}


def test_prisma_s_schema_becomes_the_search_path() -> None:
    url = "postgresql://app@db/main?schema=Tenant%20A&sslmode=require"
    target = parse_url(url, variable="DATABASE_URL")
    assert target.search_path == "Tenant A"
    assert target.parameters["sslmode"] == "require"
    assert parse_url("postgresql://db/main?schema=", variable="X").search_path is None


def test_libpq_s_own_parameters_pass_as_they_were_written() -> None:
    url = "postgresql://db/main?options=-c%20geqo%3Doff&application_name=a+b"
    assert parsed(url)["options"] == "-c geqo=off"
    assert parsed(url)["application_name"] == "a+b"


def test_asyncpg_s_ssl_is_libpq_s_sslmode() -> None:
    assert parsed("postgresql+asyncpg://db/main?ssl=require")["sslmode"] == "require"


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("ssl=true", {"sslmode": "require"}),
        ("ssl&pgbouncer", {"sslmode": "require"}),
        ("ssl=false", {"sslmode": "disable"}),
        ("ssl=%7B%22rejectUnauthorized%22%3Afalse%7D", {"sslmode": "require"}),
        ("ssl=true&sslmode=verify-full", {"sslmode": "verify-full"}),
        ("sslmode=no-verify&uselibpqcompat=true", {"sslmode": "require"}),
        ("sslMode=VerifyFull", {"sslmode": "verify-full"}),
        (
            "ApplicationName=app%20one&connectTimeout=7",
            {"application_name": "app one", "connect_timeout": "7"},
        ),
        ("connect_timeout=7s", {}),
        ("options=endpoint=ep-cool-name", {"options": "endpoint=ep-cool-name"}),
        ("targetServerType=preferSecondary", {"target_session_attrs": "prefer-standby"}),
        ("host=a:5433&host=b:5434", {"host": "a,b", "port": "5433,5434"}),
        ("host=a,b&port=1,2", {"host": "a,b", "port": "1,2"}),
        ("host=/cloudsql/project:region:instance", {"host": "/cloudsql/project:region:instance"}),
        ("unix_sock=/cloudsql/p:r:i/.s.PGSQL.5432", {"host": "/cloudsql/p:r:i"}),
        ("pool=5&prepared_statements=false&conn_max_age=600&ATOMIC_REQUESTS=True", {}),
    ],
)
def test_other_clients_parameters_mean_what_they_mean_there(
    query: str, expected: dict[str, str]
) -> None:
    assert parsed(f"postgresql:///main?{query}") == {"dbname": "main", **expected}


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://a:5433,b:5434/main",
        "jdbc:postgresql://a:5433,b:5434/main?targetServerType=any",
    ],
)
def test_several_hosts_are_kept_in_order(url: str) -> None:
    found = parsed(url)
    assert (found["host"], found["port"]) == ("a,b", "5433,5434")


def test_jdbc_s_form_without_a_host_names_the_database() -> None:
    assert parsed("jdbc:postgresql:main?user=app") == {"dbname": "main", "user": "app"}


def test_what_only_another_client_reads_is_named_without_its_value() -> None:
    url = "postgresql://app:s3cret!@db/main?pool_timeout=0&supa=base-pooler.x&max=5"
    target = parse_url(url, variable="DATABASE_URL")
    assert target.note == ("DATABASE_URL: without effect here: pool_timeout, supa, max")
    hidden = parse_url("postgresql://db/main?password=a&kT9wq=1&pgbouncer=true", variable="X")
    assert (hidden.note or "").endswith(": a further one, pgbouncer")
    assert parse_url("postgresql://db/main?sslmode=require", variable="X").note is None
    words = "Host=db;Database=main;SSL Mode=VerifyFull;Search Path=app;Maximum Pool Size=5"
    target = parse_url(f"{words};Password=kT9;wqZr=7;", variable="X")
    assert (target.note or "").endswith(": MaximumPoolSize, a further one")
    assert (target.search_path, target.parameters["sslmode"]) == ("app", "verify-full")


def test_several_schemas_are_searched_in_their_order(database: str) -> None:
    url = f"{database}?currentSchema=one,%22Two%22"
    with (
        connect(target := parse_url(url, variable="X")) as connection,
        read_only(connection, target, statement_timeout=MINUTE),
    ):
        row = connection.execute("SHOW search_path").fetchone()
        assert row == ('pg_catalog, "one", "Two", public, pg_temp',)


def test_a_password_with_a_scheme_in_it_is_still_a_password() -> None:
    assert parsed("host=db password=a://b")["password"] == "a://b"


PASSWORD = "kT9/wq#Zr@7m?Lx"


@pytest.mark.parametrize(
    "url",
    [
        f"postgresql://app:{PASSWORD}@db:5432/main",
        "postgresql://app:5432/wq-Zr7mLx@db/main",
        "postgresql://app:5432?schema=wqZr7mLx@db/main",
        "postgresql://app:5432#wqZr7mLx@db/main",
        "postgresql://app:kT9wq@Zr7mLx@db/main",
        "postgresql://app:kT9%wqZr7mLx@db/main",
        "postgresql://app:kT9[wqZr7mLx@db/main",
        "postgresql://app:kT9wqZr7mLx",
        "postgresql://app@db:kT9wqZr7mLx/main",
        "postgresql://app@db:99999/main",
        "postgresql://app:kT9wqZr7mLx@db/main?nonsense",
        "postgresql://db/main?user=app&password=9&kT9wqZr7mLx",
        "postgresql://app:kT9wqZr7mLx@db/main\0",
        "mysql://app:kT9wqZr7mLx@db/main",
        "jdbc:mysql://db/main?user=app&password=kT9wqZr7mLx",
        "prisma://accelerate.example/?api_key=kT9wqZr7mLx",
        "kT9wqZr7mLx",
        "host=db password='kT9wqZr7mLx",
        "host=db password=kT9 wqZr7mLx",
        "host=db passwort=kT9wqZr7mLx",
        "host=db password=kT9 wqZr7mLx=1",
        "host=db TimeZone=UTC passwort=kT9wqZr7mLx",
        "Username=app;Password=kT9wqZr7mLx;Database=main",
        "Host=db;Username=app;kT9wqZr7mLx",
        "Host=db kT9;Password=wqZr7mLx",
    ],
)
def test_a_malformed_url_is_refused_without_a_piece_of_it(url: str) -> None:
    with pytest.raises(ConnectionUrlError) as caught:
        parse_url(url, variable="REPLICA_URL")
    message = str(caught.value)
    assert "REPLICA_URL" in message
    # Neither in the message nor in what a traceback would show of its cause.
    for piece in ("kT9", "wq", "Zr", "7mLx", "99999"):
        assert piece not in message
    assert caught.value.__context__ is None


SECRET_WORDS = st.text(st.sampled_from("kqxzKQXZ79/#@?:%&= '\\[]"), min_size=4, max_size=24)


@settings(derandomize=True)
@given(SECRET_WORDS, st.sampled_from(["postgresql://app:{}@db/main", "app:{}@db", "password={}"]))
def test_no_password_shows_whatever_it_does_to_its_url(password: str, form: str) -> None:
    shown = ""
    try:
        target = parse_url(form.format(password), variable="DATABASE_URL")
    except ConnectionUrlError as error:
        shown = str(error)
    else:
        shown = f"{target.place} {target!r}"
    pieces = {password[i : i + 4] for i in range(len(password) - 3)}
    assert not {piece for piece in pieces if piece in shown}


@settings(derandomize=True)
@given(st.text())
def test_any_text_is_understood_or_refused_in_our_words(text: str) -> None:
    try:
        target = parse_url(text, variable="DATABASE_URL")
    except ConnectionUrlError:
        return
    assert target.place.startswith("database ")


def test_the_place_names_everything_but_the_password() -> None:
    target = parse_url("postgresql://app:s3cret!@db:6432/main", variable="DATABASE_URL")
    assert target.place == "database 'main' at db:6432 as role 'app'"
    assert "s3cret" not in repr(target)


def test_an_unreachable_server_is_an_error_that_says_where(server_url: str) -> None:
    right = parse_url(server_url, variable="DATABASE_URL")
    wrong = ConnectionTarget(parameters={**right.parameters, "port": "1"})
    with pytest.raises(CannotExamineError, match=r"cannot connect to database .* at 127.0.0.1:1 "):
        connect(wrong)


def test_a_wrong_password_is_an_error_that_does_not_show_it(database: str) -> None:
    with role(database, "wrong_password") as url:
        wrong = url.replace("a-password-of-a-test", "not-that-password")
        with pytest.raises(CannotExamineError, match="password authentication failed") as caught:
            connect(parse_url(wrong, variable="DATABASE_URL"))
    assert "not-that-password" not in str(caught.value)


def test_a_scan_s_transaction_reads_one_moment_and_cannot_write(database: str) -> None:
    place = parse_url(database, variable="DATABASE_URL")
    with connect(place) as connection:
        with read_only(connection, place, statement_timeout=MINUTE):
            shown = {
                name: connection.execute(f"SHOW {name}").fetchone()
                for name in (
                    "transaction_isolation",
                    "transaction_read_only",
                    "row_security",
                    "statement_timeout",
                    "idle_in_transaction_session_timeout",
                    "TimeZone",
                )
            }
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction), connection.transaction():
                connection.execute("CREATE TABLE x ()")
        after = connection.execute("SHOW statement_timeout").fetchone()
    assert shown == {
        "transaction_isolation": ("repeatable read",),
        "transaction_read_only": ("on",),
        "row_security": ("off",),
        "statement_timeout": ("1min",),
        "idle_in_transaction_session_timeout": ("1min",),
        "TimeZone": ("UTC",),
    }
    assert after == ("0",)


def test_no_statement_is_prepared_on_the_server_however_often_it_runs(database: str) -> None:
    place = parse_url(database, variable="DATABASE_URL")
    with connect(place) as connection:
        for _ in range(20):
            connection.execute("SELECT %s::int", (1,))
        prepared = connection.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()
    assert prepared == (0,)


def test_prisma_s_schema_is_searched_first(database: str) -> None:
    place = parse_url(f"{database}?schema=Tenant%20A", variable="DATABASE_URL")
    with connect(place) as connection:
        connection.execute('CREATE SCHEMA "Tenant A"; CREATE TABLE "Tenant A".docs ()')
        with read_only(connection, place, statement_timeout=MINUTE):
            found = connection.execute("SELECT 'docs'::regclass::text").fetchone()
            shown = connection.execute("SHOW search_path").fetchone()
    assert found == ("docs",)
    assert shown == ('pg_catalog, "Tenant A", public, pg_temp',)


def test_one_thread_cuts_each_link_at_its_own_time() -> None:
    pairs = [socket.socketpair() for _ in range(3)]
    try:
        threads = threading.active_count()
        with within(pairs[0][0], 60), within(pairs[1][0], 0.2), within(pairs[2][0], 0.1):
            assert pairs[2][1].recv(1) == b""
            assert pairs[1][1].recv(1) == b""
            assert threading.active_count() <= threads + 1
        with within(pairs[0][0], 0.1):
            pass
        pairs[0][0].sendall(b"open")
        with within(pairs[0][0], 0.2):
            assert pairs[0][1].recv(4) == b"open"
            assert pairs[0][1].recv(1) == b""
    finally:
        for pair in pairs:
            for end in pair:
                end.close()

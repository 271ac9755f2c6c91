"""Reads the parameters of a connection URL as the clients of any language write them.

Opens nothing, and keeps no value for a message.
"""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from functools import cache
from urllib.parse import quote, unquote

from psycopg import pq

SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

SEARCH_PATH = "search_path"
"""Stands for what is set in each transaction: a pooler would lose what a connection starts with."""

OTHER_NAMES = {
    "username": "user",
    "database": "dbname",
    "db": "dbname",
    "server": "host",
    "userid": "user",
    "uid": "user",
    "pwd": "password",
    "applicationname": "application_name",
    "connecttimeout": "connect_timeout",
    "logintimeout": "connect_timeout",
    "channelbinding": "channel_binding",
    "schema": SEARCH_PATH,
    "currentschema": SEARCH_PATH,
    "searchpath": SEARCH_PATH,
    "schemasearchpath": SEARCH_PATH,
    "targetservertype": "target_session_attrs",
    "unixsocket": "unix_sock",
    "unixsock": "unix_sock",
}
"""What Prisma, JDBC, Rails, lib/pq, pg8000 and Npgsql call what libpq has, without case and `_`."""

CLIENTS_OWN = frozenset(
    {
        # Prisma's.
        *("connection_limit", "pgbouncer", "pool_timeout", "single_use_connections"),
        *("socket_timeout", "sslaccept", "sslidentity", "statement_cache_size"),
        *("max_connection_lifetime", "max_idle_connection_lifetime"),
        # asyncpg's and SQLAlchemy's.
        *("prepared_statement_cache_size", "command_timeout", "pool_size", "max_overflow"),
        # JDBC's.
        *("prepareThreshold", "stringtype", "reWriteBatchedInserts", "socketTimeout"),
        *("sslfactory", "tcpKeepAlive", "defaultRowFetchSize", "loggerLevel"),
        # GORM's, lib/pq's and pgx's.
        *("TimeZone", "timezone", "binary_parameters", "default_query_exec_mode"),
        *("statement_cache_capacity", "description_cache_capacity", "pool_max_conns"),
        *("pool_min_conns", "pool_max_conn_lifetime", "pool_max_conn_idle_time"),
        *("pool_health_check_period", "pool_max_conn_lifetime_jitter", "statement_timeout"),
        # Npgsql's.
        *("Pooling", "MinimumPoolSize", "MaximumPoolSize", "MinPoolSize", "MaxPoolSize"),
        *("CommandTimeout", "TrustServerCertificate", "IncludeErrorDetail", "Multiplexing"),
        *("Timeout", "KeepAlive", "NoResetOnClose", "MaxAutoPrepare", "PersistSecurityInfo"),
    }
)
"""Some of the names that libpq does not know and others do: they are certainly no secret."""

SERVERS = {
    "master": "primary",
    "slave": "standby",
    "secondary": "standby",
    "preferslave": "prefer-standby",
    "prefersecondary": "prefer-standby",
    "preferprimary": "any",
}
"""What JDBC calls values of libpq's target_session_attrs."""

NO_VERIFY = re.compile(r"(?:^|&)ssl(?:mode)?=no-verify(?:&|$)")
"""node-postgres' word."""
_ASKS_FOR_TLS = re.compile(r"(?i)require|true|1|on|yes|t|no-verify")
_OFF = ("false", "0", "off", "no", "f")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,39}")
_HOST_WITH_PORT = re.compile(r"([^/:]+|\[[^\]]+\]):([0-9]+)")


@dataclass(kw_only=True, slots=True)
class UrlParameters:
    """What the query of a URL says, for libpq."""

    for_libpq: dict[str, str] = field(default_factory=dict, repr=False)
    """By libpq's names, percent-encoded."""
    search_path: str | None = None
    dropped: list[str] = field(default_factory=list)
    """Names of what only the client reads that the URL was written for."""
    taken_as: list[str] = field(default_factory=list)
    """Words of other clients that libpq has no equal of, and what they are taken for."""


def read_parameters(query: str) -> UrlParameters:
    """Sort the parameters of a URL's query. Raises ValueError for a piece without a name."""
    found = UrlParameters()
    hosts: list[str] = []
    ssl: str | None = None
    for piece in filter(None, query.split("&")):
        written, equals, value = piece.partition("=")
        name = unquote(written)
        meant = _meant(name)
        if not _NAME.fullmatch(name) or (not equals and name not in CLIENTS_OWN | {"ssl"}):
            # It may be what follows an & in a password.
            raise ValueError
        if meant == "ssl":
            ssl = _ssl_mode(unquote(value))
        elif meant == SEARCH_PATH:
            found.search_path = unquote(value) or None
        elif meant == "host":
            hosts += value.split(",")
        elif meant == "unix_sock":
            # libpq is told the folder of the socket.
            hosts.append(re.sub(r"/\.s\.PGSQL\.[0-9]+$", "", unquote(value)))
        elif meant in libpq_names():
            kept = _kept(meant, value)
            if kept is None:
                found.dropped.append(name)
            else:
                found.for_libpq[meant] = kept
                if meant == "sslmode" and kept == "require" and not _ASKS_FOR_TLS.fullmatch(value):
                    found.taken_as.append("an unknown sslmode is taken as sslmode=require")
        elif name in CLIENTS_OWN:
            found.dropped.append(name)
        elif "password" not in found.for_libpq:
            near = difflib.get_close_matches(name, sorted(libpq_names()), n=1, cutoff=0.8)
            found.dropped.append(f"{name} (did you mean {near[0]}?)" if near else name)
        else:
            # It may be what follows an & in that password.
            found.dropped.append("a further one")
    if ssl is not None:
        found.for_libpq.setdefault("sslmode", ssl)
    if NO_VERIFY.search(query):
        found.taken_as.append("no-verify is taken as sslmode=require")
    _add_hosts(found.for_libpq, hosts)
    return found


def is_known(name: str) -> bool:
    """Whether any client is known to have a parameter of this name."""
    return _meant(name) in libpq_names() | {SEARCH_PATH, "ssl"} or name in CLIENTS_OWN


def _meant(name: str) -> str:
    plain = name.lower().replace("_", "")
    return OTHER_NAMES.get(plain, name if name in libpq_names() else name.lower())


@cache
def libpq_names() -> frozenset[str]:
    """The parameters that this libpq takes."""
    return frozenset(option.keyword.decode() for option in pq.Conninfo.get_defaults())


def _kept(name: str, value: str) -> str | None:
    """A value as libpq takes it; None where it can take none of it."""
    plain = unquote(value).lower()
    if name == "sslmode":
        return value if plain == "" else _ssl_mode(plain)
    if name == "target_session_attrs":
        return SERVERS.get(plain, plain)
    if name == "connect_timeout":
        return value if re.fullmatch(r"[0-9]{1,9}", plain) else None
    # libpq refuses a second = that stands as it is, as in options=endpoint=x.
    return value.replace("=", "%3D")


def _ssl_mode(value: str) -> str:
    """libpq's word for whether and how a client uses TLS; what is not known is no less than TLS."""
    plain = value.lower().replace("_", "-")
    if plain in SSL_MODES:
        return plain
    if plain in _OFF:
        return "disable"
    known = {mode.replace("-", ""): mode for mode in SSL_MODES}
    return known.get(plain, "require")


def _add_hosts(parameters: dict[str, str], hosts: list[str]) -> None:
    """Several hosts, of which each may have a port, as SQLAlchemy writes them."""
    if not hosts:
        return
    split = [_HOST_WITH_PORT.fullmatch(unquote(host)) for host in hosts]
    names = [
        unquote(host) if found is None else found[1]
        for host, found in zip(hosts, split, strict=True)
    ]
    parameters["host"] = quote(",".join(names), safe="")
    if any(split):
        ports = [found[2] if found else "" for found in split]
        parameters["port"] = quote(",".join(ports), safe="")

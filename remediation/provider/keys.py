"""Finds the API key of a tenant: its own, or a fallback that the settings declare.

Must never hand one tenant's key to another, or show a key or a lookup's output.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pydantic import SecretStr

from checks.redaction import redactor
from remediation.provider.endpoint import KeyRowError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from remediation.provider.endpoint import KeyRow, OwnEndpoint

PLACEHOLDER = "{tenant}"
LONGEST_KEY = 8_192
"""Characters; servers take no longer header, and a tenant may have put anything there."""
COMMAND_SECONDS = 10.0
"""How long a `[keys] command` may take; a vault answers in well under a second."""
KEYS_SQL = 'sql = "SELECT api_key FROM tenant_settings WHERE tenant_id = %(tenant)s"'
SHOWN_CHARACTERS = 60
"""Of a tenant's name, in a message; names are the users' own and may be of any length."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Key:
    """A key that may be sent, and where it was found, in words."""

    secret: SecretStr
    source: str
    own: OwnEndpoint | None = None
    """The endpoint that goes with the key, where that is not the settings'."""


@dataclass(frozen=True, kw_only=True, slots=True)
class MissingKey:
    """Why a tenant has no key, and the next step."""

    reason: str
    cause: str = ""
    """The same without the tenant's name, for all tenants whom it keeps from their keys."""

    def __post_init__(self) -> None:
        if not self.cause:
            object.__setattr__(self, "cause", self.reason)


class KeyRing:
    """Looks for keys in the order of `[keys]`: environment, SQL, command, declared fallback.

    `known_tenants` must be all tenants of the run, of other tables too: only then is it seen that
    two of them map to one variable. `sql_lookup` returns a tenant's row or None. Answers are
    kept per tenant; lookups run one at a time, so `sql_lookup` may use one connection. Raises
    ValueError where the pattern or the command does not name the tenant: every tenant would get
    the same key.
    """

    def __init__(
        self,
        *,
        env: str | None,
        sql_lookup: Callable[[str], KeyRow | None] | None,
        command: Sequence[str] | None,
        fallback_env: str | None,
        environ: Mapping[str, str],
        known_tenants: Iterable[str | None],
        command_seconds: float = COMMAND_SECONDS,
    ) -> None:
        if env is not None and PLACEHOLDER not in env:
            raise ValueError(f"expected {PLACEHOLDER} in [keys] env, found {env!r}")
        if command is not None and not any(PLACEHOLDER in argument for argument in command):
            raise ValueError(f"expected {PLACEHOLDER} in an argument of [keys] command")
        self._env = env
        self._sql_lookup = sql_lookup
        self._command = tuple(command) if command is not None else None
        self._fallback_env = fallback_env
        self._environ = environ
        self._command_seconds = command_seconds
        self._owners: dict[str, set[str]] = {}
        self._answers: dict[str | None, Key | MissingKey] = {}
        self._lock = threading.Lock()
        for tenant in known_tenants:
            self._own(tenant)

    def find(self, tenant: str | None) -> Key | MissingKey:
        """The tenant's key; never raises, since one tenant without a key stops only itself."""
        with self._lock:
            if tenant not in self._answers:
                self._answers[tenant] = self._look(tenant)
            return self._answers[tenant]

    def _look(self, tenant: str | None) -> Key | MissingKey:
        if not tenant:
            return self._fallback() or MissingKey(
                reason="a row without a tenant (NULL or empty) has no key of its own; "
                f"{self._by_fallback} or give the row a tenant"
            )
        variable = self._own(tenant)
        secret = self._environ.get(variable) if variable else None
        owners = self._owners.get(variable, set()) if variable else set()
        if secret and len(owners) < 2:
            return _usable(secret, f"environment variable {variable}")
        found = self._from_sql(tenant) or self._from_command(tenant)
        if found:
            return found
        # A variable that is not set is nobody's, so that nothing about it can be mistaken.
        if secret and len(owners) > 1:
            return MissingKey(
                reason=f"tenants {_names(owners)} map to one environment variable, {variable}, "
                "so it is used for none of them; give them keys by [keys] sql or command"
            )
        return self._fallback() or MissingKey(
            reason=f"no key for tenant {_name(tenant)}; "
            # Where several tenants map to one variable, it would serve none of them.
            + (
                f"set environment variable {variable}"
                if variable and len(owners) < 2
                else "use [keys] sql or command"
            )
            + f", or {self._by_fallback}",
            cause=f"no key was found; {self._ways}"
            if len(owners) < 2
            else "no key was found, and several tenants map to one variable; use [keys] sql or"
            f" command, or {self._by_fallback}",
        )

    @property
    def _ways(self) -> str:
        """How tenants can be given keys, those ways first that the settings take already."""
        ways = [self._by_fallback] if self._fallback_env else []
        if self._env:
            ways.append(f"set {self._env} of each (the name in capitals, _ for other characters)")
        ways += ["have [keys] sql return a row for each"] if self._sql_lookup else []
        ways += ["have [keys] command print each"] if self._command else []
        if not self._sql_lookup:
            ways.append(f"look them up in the database, as by [keys] {KEYS_SQL}")
        rest = "" if self._fallback_env else f"; or {self._by_fallback} for the rest"
        return f"{', or '.join(ways)}{rest}"

    @property
    def _by_fallback(self) -> str:
        """How tenants are given the one key of all who have none."""
        if self._fallback_env is None:
            return "declare [keys] fallback_env"
        return f"set {self._fallback_env} ([keys] fallback_env)"

    def _own(self, tenant: str | None) -> str | None:
        """The variable that the tenant's name maps to, now known to be this tenant's."""
        variable = variable_name(self._env, tenant) if self._env and tenant else None
        # The fallback's variable holds the platform's key, even if a tenant's name maps to it.
        if variable is None or variable == self._fallback_env or tenant is None:
            return None
        self._owners.setdefault(variable, set()).add(tenant)
        return variable

    def _from_sql(self, tenant: str) -> Key | MissingKey | None:
        if self._sql_lookup is None:
            return None
        try:
            row = self._sql_lookup(tenant)
        except KeyRowError as error:
            return MissingKey(
                reason=f"[keys] sql failed for tenant {_name(tenant)}: {error}",
                cause=f"[keys] sql failed: {error}",
            )
        except Exception as error:  # whatever a driver raises; its message may quote the key's row
            return MissingKey(
                reason=f"[keys] sql failed for tenant {_name(tenant)} ({type(error).__name__}); "
                "run it by hand and correct it",
                cause=f"[keys] sql failed ({type(error).__name__}); run it by hand as the repairing"
                " role, and correct it or grant what it lacks",
            )
        if row is None:
            return None
        key = _usable(row.api_key, "[keys] sql")
        return replace(key, own=row.own) if isinstance(key, Key) else key

    def _from_command(self, tenant: str) -> Key | MissingKey | None:
        if self._command is None:
            return None
        name = f"[keys] command {self._command[0]!r}"
        argv = [argument.replace(PLACEHOLDER, tenant) for argument in self._command]
        if any(
            argument.startswith("-") and template.startswith(PLACEHOLDER)
            for argument, template in zip(argv, self._command, strict=True)
        ):
            return MissingKey(
                reason=f"tenant {_name(tenant)} begins with '-', which {name} would take for an "
                f"option; put something before {PLACEHOLDER}, as in '--tenant={PLACEHOLDER}'"
            )
        try:
            status, output = self._run(argv)
        except subprocess.TimeoutExpired:
            trouble = f"took longer than {self._command_seconds:g} s"
        except (OSError, ValueError) as error:  # not there, or a name no argument can carry
            trouble = f"could not be started ({type(error).__name__})"
        else:
            if status == 0:
                # Bytes outside ASCII become characters that `_usable` refuses.
                secret = output.decode("ascii", "replace").strip()
                return _usable(secret, name) if secret else None
            trouble = f"ended with status {status}"
        return MissingKey(
            reason=f"{name} {trouble} for tenant {_name(tenant)}; run it by hand and correct it",
            cause=f"{name} {trouble}; run it by hand and correct it",
        )

    def _run(self, argv: Sequence[str]) -> tuple[int, bytes]:
        with subprocess.Popen(  # noqa: S603 - argv of the user's own settings, no shell
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=dict(self._environ),
            start_new_session=True,
        ) as running:
            try:
                output, _ = running.communicate(timeout=self._command_seconds)
            except BaseException:
                # Kill the whole group: a child of the command would keep its output open. Where all
                # have ended already, the interrupt must still be raised.
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(running.pid, signal.SIGKILL)
                raise
        return running.returncode, output

    def _fallback(self) -> Key | MissingKey | None:
        secret = self._environ.get(self._fallback_env) if self._fallback_env else None
        if not secret:
            return None
        return _usable(secret, f"environment variable {self._fallback_env} (declared fallback)")


def variable_name(pattern: str, tenant: str) -> str | None:
    """The environment variable of a tenant, or None where its name leaves nothing but underscores.

    ASCII letters are upper-cased; every other character than A-Z and 0-9 becomes `_`. Only ASCII:
    `str.upper` would make `SS` of a sharp s and `I` of a dotless i, and so merge tenants.
    """
    mapped = "".join(c.upper() if c.isascii() and c.isalnum() else "_" for c in tenant)
    return pattern.replace(PLACEHOLDER, mapped) if mapped.strip("_") else None


def names_a_key(pattern: str | None, environ: Mapping[str, str]) -> bool:
    """Whether any variable that is set may be some tenant's by this pattern."""
    if pattern is None:
        return False
    named = "[A-Z0-9_]+".join(map(re.escape, pattern.split(PLACEHOLDER)))
    return any(re.fullmatch(named, variable) for variable in environ)


def _usable(value: str, source: str) -> Key | MissingKey:
    """The key, or why it cannot be sent: that ends the search, since no other was declared."""
    secret = value.strip()
    if len(secret) > LONGEST_KEY:
        return MissingKey(
            reason=f"{source} holds over {LONGEST_KEY:,} characters; no key has so many"
        )
    redactor.add(secret)
    if not secret:
        return MissingKey(reason=f"{source} holds only white space; put the key there")
    # What an HTTP header can carry: visible ASCII.
    if not all("!" <= character <= "~" for character in secret):
        return MissingKey(
            reason=f"{source} holds characters that no HTTP header can carry "
            "(spaces, line breaks or other than ASCII); put the key alone there"
        )
    return Key(secret=SecretStr(secret), source=source)


def _name(tenant: str) -> str:
    shown = tenant if len(tenant) <= SHOWN_CHARACTERS else tenant[:SHOWN_CHARACTERS] + "…"
    return repr(shown)


def _names(tenants: Iterable[str]) -> str:
    names = [_name(tenant) for tenant in sorted(tenants)]
    return " and ".join(names if len(names) <= 5 else [*names[:5], f"{len(names) - 5} more"])

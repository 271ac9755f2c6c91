"""How a tenant's key is found, and above all when it must not be."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from checks.redaction import redactor
from remediation.provider.endpoint import KeyRow
from remediation.provider.keys import Key, KeyRing, MissingKey, variable_name
from tests.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PATTERN = "OPENAI_API_KEY__{tenant}"


def ring(**changes: Any) -> KeyRing:
    arguments: dict[str, Any] = {
        "env": PATTERN,
        "sql_lookup": None,
        "command": None,
        "fallback_env": None,
        "environ": {},
        "known_tenants": (),
    }
    return KeyRing(**{**arguments, **changes})


def by_sql(**keys: str) -> Callable[[str], KeyRow | None]:
    """A lookup that knows these tenants' keys, and no endpoint of theirs."""
    return lambda tenant: KeyRow(api_key=keys[tenant]) if tenant in keys else None


def found(answer: Key | MissingKey) -> tuple[str, str]:
    assert isinstance(answer, Key), answer
    return answer.secret.get_secret_value(), answer.source


def missing(answer: Key | MissingKey) -> str:
    assert isinstance(answer, MissingKey), answer
    return answer.reason


def python(script: str) -> list[str]:
    return [sys.executable, "-c", script, "tenant={tenant}"]


@pytest.mark.parametrize(
    ("tenant", "variable"),
    [
        ("acme", "OPENAI_API_KEY__ACME"),
        ("a-b", "OPENAI_API_KEY__A_B"),
        ("Straße 5", "OPENAI_API_KEY__STRA_E_5"),
        ("d\u0131x", "OPENAI_API_KEY__D_X"),
        ("x²", "OPENAI_API_KEY__X_"),
        ("日本", None),
        ("--", None),
        ("_", None),
    ],
)
def test_a_tenant_maps_to_a_variable_by_ascii_alone(tenant: str, variable: str | None) -> None:
    assert variable_name(PATTERN, tenant) == variable


@given(st.text())
def test_a_variable_holds_only_what_an_environment_can(tenant: str) -> None:
    variable = variable_name("{tenant}", tenant)
    assert variable is None or set(variable) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")


def test_the_environment_comes_first_then_sql_then_the_command_then_the_fallback() -> None:
    sources = {
        "environ": {"OPENAI_API_KEY__ACME": "sk-env-1", "PLATFORM": "sk-platform"},
        "sql_lookup": by_sql(acme="sk-sql-1", globex="sk-sql-2"),
        "command": python("import sys; print('sk-cmd') if 'initech' in sys.argv[1] else None"),
        "fallback_env": "PLATFORM",
    }
    keys = ring(**sources, known_tenants=["acme", "globex", "initech", "hooli"])
    assert found(keys.find("acme")) == ("sk-env-1", "environment variable OPENAI_API_KEY__ACME")
    assert found(keys.find("globex")) == ("sk-sql-2", "[keys] sql")
    assert found(keys.find("initech")) == ("sk-cmd", f"[keys] command {sys.executable!r}")
    assert found(keys.find("hooli")) == (
        "sk-platform",
        "environment variable PLATFORM (declared fallback)",
    )


def test_without_a_declared_fallback_the_platforms_key_serves_nobody() -> None:
    keys = ring(environ={"OPENAI_API_KEY": "sk-platform"}, known_tenants=["acme"])
    reason = missing(keys.find("acme"))
    assert "no key for tenant 'acme'" in reason
    assert "set environment variable OPENAI_API_KEY__ACME" in reason


def test_a_variable_that_two_tenants_map_to_is_used_for_neither_and_no_fallback_instead() -> None:
    keys = ring(
        environ={"OPENAI_API_KEY__A_B": "sk-whose", "PLATFORM": "sk-platform"},
        fallback_env="PLATFORM",
        known_tenants=["a-b", "a_b"],
    )
    for tenant in ("a-b", "a_b"):
        reason = missing(keys.find(tenant))
        assert "'a-b' and 'a_b'" in reason
        assert "OPENAI_API_KEY__A_B" in reason


def test_a_variable_that_is_not_set_keeps_no_two_tenants_from_the_platforms_key() -> None:
    tenants = ["faq-de", "faq_de", "FAQ de"]
    keys = ring(environ={"P": "sk-platform"}, fallback_env="P", known_tenants=tenants)
    for tenant in tenants:
        assert found(keys.find(tenant))[0] == "sk-platform"
    keys = ring(environ={"OPENAI_API_KEY__FAQ_DE": ""}, known_tenants=tenants)
    assert "use [keys] sql or command" in missing(keys.find("faq-de"))


def test_a_tenant_of_an_ambiguous_variable_may_still_have_a_key_in_sql() -> None:
    keys = ring(
        environ={"OPENAI_API_KEY__A_B": "sk-whose"},
        sql_lookup=by_sql(**{"a-b": "sk-own-key"}),
        known_tenants=["a-b", "a_b"],
    )
    assert found(keys.find("a-b")) == ("sk-own-key", "[keys] sql")
    assert "'a-b' and 'a_b'" in missing(keys.find("a_b"))


def test_a_tenant_nobody_declared_does_not_share_a_known_tenants_variable() -> None:
    keys = ring(environ={"OPENAI_API_KEY__A_B": "sk-whose"}, known_tenants=["a-b"])
    assert "map to one environment variable" in missing(keys.find("A.B"))


def test_a_declared_fallback_that_is_not_set_is_what_is_to_be_set_first() -> None:
    keys = ring(fallback_env="PLATFORM", known_tenants=["acme"])
    none = keys.find("acme")
    assert isinstance(none, MissingKey)
    assert none.cause.startswith("no key was found; set PLATFORM ([keys] fallback_env), or set ")
    assert none.reason.endswith(", or set PLATFORM ([keys] fallback_env)")
    assert "declare" not in none.cause + none.reason


@pytest.mark.parametrize("tenant", [None, ""])
def test_a_row_without_a_tenant_is_served_by_a_declared_fallback_alone(tenant: str | None) -> None:
    sources: dict[str, Any] = {
        "environ": {"OPENAI_API_KEY__": "sk-trap", "PLATFORM": "sk-platform"},
        "sql_lookup": lambda _: KeyRow(api_key="sk-trap"),
        "command": python("print('sk-trap')"),
        "known_tenants": [tenant],
    }
    assert "without a tenant" in missing(ring(**sources).find(tenant))
    assert found(ring(**sources, fallback_env="PLATFORM").find(tenant))[0] == "sk-platform"


def test_a_tenant_named_like_the_fallbacks_variable_gets_no_key_by_its_name() -> None:
    environ = {"OPENAI_API_KEY__DEFAULT": "sk-platform"}
    keys = ring(environ=environ, fallback_env="OPENAI_API_KEY__DEFAULT", known_tenants=["default"])
    assert found(keys.find("default"))[1].endswith("(declared fallback)")


def test_a_name_without_ascii_letters_matches_no_variable() -> None:
    keys = ring(environ={"OPENAI_API_KEY____": "sk-trap"}, known_tenants=["日本"])
    assert "use [keys] sql or command" in missing(keys.find("日本"))


def test_an_empty_variable_counts_as_absent() -> None:
    keys = ring(
        environ={"OPENAI_API_KEY__ACME": ""},
        sql_lookup=by_sql(acme="sk-sql-1"),
        known_tenants=["acme"],
    )
    assert found(keys.find("acme"))[0] == "sk-sql-1"


@pytest.mark.parametrize("broken", [" \n", "sk-one\nsk-two", "sk-ключ", "sk-\x00nul", "sk two"])
def test_a_key_that_no_header_can_carry_is_missing_and_not_shown(broken: str) -> None:
    keys = ring(
        environ={"OPENAI_API_KEY__ACME": broken, "PLATFORM": "sk-platform"},
        fallback_env="PLATFORM",
        known_tenants=["acme"],
    )
    reason = missing(keys.find("acme"))
    assert reason.startswith("environment variable OPENAI_API_KEY__ACME holds")
    assert not any(part in reason for part in broken.split() if len(part) > 3)


def test_white_space_around_a_key_is_dropped() -> None:
    keys = ring(environ={"OPENAI_API_KEY__ACME": " sk-acme-1\n"}, known_tenants=["acme"])
    assert found(keys.find("acme"))[0] == "sk-acme-1"


def test_a_key_that_was_found_is_redacted_from_then_on() -> None:
    keys = ring(environ={"OPENAI_API_KEY__ACME": "sk-redact-me-1"}, known_tenants=["acme"])
    answer = keys.find("acme")
    assert redactor.clean("key sk-redact-me-1") == "key [redacted]"
    assert "sk-redact-me-1" not in repr(answer)


def test_sql_that_fails_stops_the_search_and_shows_only_the_kind_of_error() -> None:
    def lookup(tenant: str) -> KeyRow | None:
        raise LookupError(f"row ({tenant}, sk-secret-in-error)")

    keys = ring(
        sql_lookup=lookup,
        fallback_env="PLATFORM",
        environ={"PLATFORM": "sk-platform"},
        known_tenants=["acme"],
    )
    reason = missing(keys.find("acme"))
    assert "LookupError" in reason
    assert "sk-secret" not in reason


def test_a_command_gets_the_tenant_as_one_argument_without_a_shell(tmp_path: Path) -> None:
    tenant = "a'; touch gone; $(touch gone) `touch gone`"
    keys = ring(
        command=python(
            "import sys, hashlib; print(hashlib.sha256(sys.argv[1].encode()).hexdigest())"
        ),
        environ={"PWD": str(tmp_path)},
        known_tenants=[tenant],
    )
    expected = hashlib.sha256(f"tenant={tenant}".encode()).hexdigest()
    assert found(keys.find(tenant))[0] == expected


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("import sys; print('sk-half'); sys.exit('sk-in-stderr')", "ended with status 1"),
        ("import os; os.kill(os.getpid(), 9)", "ended with status -9"),
        ("print('sk-one'); print('sk-two')", "holds characters that no HTTP header can carry"),
        ("print('sk-' * 9_999)", "holds over 8,192 characters"),
        ("import sys; sys.stdout.buffer.write(b'sk-\\xff')", "holds characters that no HTTP"),
    ],
)
def test_a_command_that_fails_is_told_without_its_output(
    script: str, words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    keys = ring(
        command=python(script),
        fallback_env="PLATFORM",
        environ={"PLATFORM": "sk-platform"},
        known_tenants=["acme"],
    )
    reason = missing(keys.find("acme"))
    assert words in reason
    assert "sk-" not in reason
    assert "".join(capfd.readouterr()) == ""


def test_a_command_that_is_not_there_is_told() -> None:
    keys = ring(command=["/nowhere/get-key", "{tenant}"], known_tenants=["acme"])
    assert "could not be started (FileNotFoundError)" in missing(keys.find("acme"))


def test_a_command_that_hangs_is_ended_with_its_children(tmp_path: Path) -> None:
    mark = tmp_path / "child"
    script = f"sleep 600 & echo $! > {mark}; wait"
    command = ["/bin/sh", "-c", script, "tenant={tenant}"]
    keys = ring(command=command, environ=os.environ, known_tenants=["acme"], command_seconds=2.0)
    assert "took longer than 2 s" in missing(keys.find("acme"))
    state = f"/proc/{mark.read_text().strip()}/stat"
    ended = threading.Event()
    for _ in range(200):
        try:
            with open(state) as stat:  # noqa: PTH123
                if stat.read().rsplit(")", 1)[1].split()[0] == "Z":
                    break
        except FileNotFoundError:
            break
        ended.wait(0.05)
    else:
        pytest.fail("the command's child is still running")


def test_an_interrupt_while_a_command_runs_is_an_interrupt(tmp_path: Path) -> None:
    """Python lets the command end for a quarter of a second; then there is nothing to kill."""
    begun, end = tmp_path / "begun", tmp_path / "end"
    script = f"touch {begun}; while [ ! -e {end} ]; do sleep 0.01; done; echo key"
    command = ["/bin/sh", "-c", script, "tenant={tenant}"]
    keys = ring(command=command, environ=os.environ, known_tenants=["acme"])

    def interrupt() -> None:
        wait_until(begun.exists)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        end.touch()

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            keys.find("acme")
    finally:
        thread.join()


def test_a_tenant_that_looks_like_an_option_is_not_given_to_the_command() -> None:
    keys = ring(
        command=[sys.executable, "-c", "print('sk-trap')", "{tenant}"], known_tenants=["--help"]
    )
    assert "would take for an option" in missing(keys.find("--help"))


def test_a_tenant_that_no_argument_can_carry_has_no_key() -> None:
    keys = ring(env=None, command=python("print('sk-trap')"))
    assert "could not be started" in missing(keys.find("a\0b"))


def test_each_tenant_is_looked_up_once_however_many_threads_ask() -> None:
    asked: list[str] = []

    def lookup(tenant: str) -> KeyRow | None:
        asked.append(tenant)
        threading.Event().wait(0.02)  # long enough for the other threads to ask as well
        return KeyRow(api_key=f"sk-{tenant}-key")

    keys = ring(env=None, sql_lookup=lookup)
    tenants = ["acme", "globex"] * 50
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(keys.find, tenants))
    assert [found(answer)[0] for answer in answers] == [f"sk-{tenant}-key" for tenant in tenants]
    assert sorted(asked) == ["acme", "globex"]


def test_a_long_name_is_shortened_in_the_reason() -> None:
    reason = missing(ring(env=None).find("я" * 300 + "\n"))
    assert len(reason) < 200
    assert "\n" not in reason


@pytest.mark.parametrize("wrong", [{"env": "OPENAI_API_KEY"}, {"command": ["get-key"]}])
def test_settings_that_give_every_tenant_one_key_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected \{tenant\} in"):
        ring(**wrong)

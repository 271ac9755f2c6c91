"""Every way in which a settings file can be wrong, and the words for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from checks.errors import SettingsError
from checks.settings.integrity_toml import (
    Keys,
)
from tests.builders.settings_files import PATTERN, TABLE, faults_of, settings_of

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "hunter2-secret"

FAULTS = {
    TABLE + 'tenantt = "x"': 'tables[public.docs].tenantt: unknown key; did you mean "tenant"?',
    TABLE + "[reapir]\nprobe = 1": 'reapir: unknown key; did you mean "repair"?',
    TABLE + '[tables.store]\nname = "s"\nkey = ["id"]\nmetric = "l2"': (
        "tables[public.docs].store.metric: unknown key; "
        "it belongs to [[tables]], not to [tables.store]"
    ),
    TABLE + "[canary]\nzzz = 1": (
        "canary.zzz: unknown key; [canary] knows sample, min_cosine, min_recall"
    ),
    '[[tables]]\nname = "docs"': (
        "tables[docs].text: missing key; [[tables]] needs it, "
        "integrity.example.toml shows how it is written"
    ),
    TABLE + '[[tables]]\ntext = "body"': (
        "tables[#2].name: missing key; [[tables]] needs it, "
        "integrity.example.toml shows how it is written"
    ),
    TABLE + "grace = 15\ncreated_at = 'c'": (
        'tables[public.docs].grace: expected a duration such as "500ms", "2s", "5min", '
        '"15 minutes", "1h" or "1 day", found 15'
    ),
    TABLE + 'required = "no"': "tables[public.docs].required: expected true or false, found 'no'",
    TABLE + "pad = 20000": (
        "tables[public.docs].pad: expected true, or the dimensions of what is stored, up to 16000,"
        " where the column's type does not say them, found 20000"
    ),
    TABLE + 'tenant = "  "': (
        "tables[public.docs].tenant: expected a column or an SQL expression, found a blank; "
        "leave an optional key out where there is none"
    ),
    TABLE + 'metric = "cosin"': (
        'tables[public.docs].metric: expected "cosine", "l2" or "inner_product", '
        "found 'cosin'; did you mean \"cosine\"?"
    ),
    TABLE + "dimensions = 16001": (
        "tables[public.docs].dimensions: expected at most 16000, found 16001"
    ),
    TABLE + 'key = ["a b"]': (
        "tables[public.docs].key[#1]: expected a name, found 'a b'; put double quotes around a "
        "name that holds other characters than letters, digits and _"
    ),
    TABLE + "key = []": (
        "tables[public.docs].key: expected at least one entry, found none; "
        "leave the key out where there is none"
    ),
    TABLE + 'key = "id"': (
        'tables[public.docs].key: expected a list such as ["a", "b"], found \'id\''
    ),
    TABLE + "[tables.checks]\ncompletness = {}": (
        'tables[public.docs].checks.completness: unknown check; did you mean "completeness"?'
    ),
    TABLE + "[tables.checks]\nindex = false": (
        "tables[public.docs].checks.index: expected settings of a check such as "
        "{ enabled = false }, found false"
    ),
    TABLE + "[tables.checks]\ncompleteness = { min = 1.01 }": (
        "tables[public.docs].checks.completeness.min: expected at most 1, found 1.01"
    ),
    TABLE + "[tables.checks]\ncompleteness = { min = nan }": (
        "tables[public.docs].checks.completeness.min: expected a finite number, found NaN"
    ),
    TABLE + '[tables.checks]\ncompleteness = { min = "1" }': (
        "tables[public.docs].checks.completeness.min: expected a number, found '1'"
    ),
    TABLE + "[tables.checks]\nindex.accept = [{ rows = 1, until = '2026-01-01', reason = 'x' }]": (
        "tables[public.docs].checks.index.accept[#1].until: "
        "expected a date such as 2026-12-31, without quotes, found '2026-01-01'"
    ),
    TABLE + "[tables.checks]\nschema = { enabled = false }": (
        "tables[public.docs].checks.schema.enabled: schema always runs, as an error: where it "
        "fails, no other check means anything; remove this setting"
    ),
    TABLE + "[tables.checks]\nindex = { min = 0.5 }": (
        "tables[public.docs].checks.index.min: index is about the table as a whole, of which no "
        "share can hold; remove it"
    ),
    TABLE
    + "[tables.checks.freshness]\nenabled = false\n"
    + "accept = [{ rows = 1, until = 2026-01-01, reason = 'x' }]": (
        "tables[public.docs].checks.freshness.accept: freshness is switched off, so nothing of it "
        "can be accepted; remove one of the two"
    ),
    TABLE
    + "[tables.checks]\nindex.accept = "
    + "[{ tenant = 'a', rows = 1, until = 2026-01-01, reason = 'x' }]": (
        "tables[public.docs].checks.index.accept[#1].tenant: index is about the table as a whole; "
        "leave the tenant out"
    ),
    TABLE
    + "[tables.checks]\nfreshness.accept = ["
    + ", ".join(["{ tenant = 'a', rows = 1, until = 2026-01-01, reason = 'x' }"] * 2)
    + "]": (
        "tables[public.docs].checks.freshness.accept[#2]: expected one entry for tenant "
        "'a', found a second; keep one of the two"
    ),
    TABLE + '[[tables.custom]]\nname = "Bad-Name"\nfailing_when = "x"': (
        "tables[public.docs].custom[Bad-Name].name: "
        "expected small letters, digits and _, a letter first, found 'Bad-Name'"
    ),
    TABLE + '[[tables.custom]]\nname = "freshness"\nfailing_when = "x"': (
        "tables[public.docs].custom[freshness].name: "
        "'freshness' is a built-in check; give your own another name"
    ),
    TABLE + '[[tables.custom]]\nname = "a"\nfailing_when = "x"\n' * 2: (
        "tables[public.docs].custom[a].name: 'a' is declared twice in this table; rename one"
    ),
    TABLE + 'tenant_from = "schema"': (
        "tables[public.docs].tenant_from: expected an unquoted * in the schema part of the name, "
        "found 'public.docs'"
    ),
    PATTERN + 'tenant_from = "table"': (
        "tables[tenant_*.docs].tenant_from: expected an unquoted * in the table part of the name, "
        "found 'tenant_*.docs'"
    ),
    PATTERN + 'tenant_from = "schema"\ntenant = "t"': (
        "tables[tenant_*.docs].tenant_from: tenant is given as well; keep one of the two"
    ),
    TABLE + 'tenants = ["acme"]': (
        "tables[public.docs].tenants: needs tenant or tenant_from, which say whose a row is"
    ),
    TABLE + 'grace = "1h"': (
        "tables[public.docs].grace: needs created_at, which tells how old a row is"
    ),
    TABLE + 'updated_at = "u"': (
        "tables[public.docs].updated_at: needs embedded_at (or content_hash), "
        "which tells whether the embedding is older"
    ),
    TABLE + 'key = ["a", "b"]\n[tables.store]\nname = "s"\nkey = ["a"]': (
        "tables[public.docs].store.key: expected as many columns as the table's key (2), found 1; "
        "they are matched in order"
    ),
    TABLE + '[tables.source]\nname = "s"\nkey = ["a", "b"]\nsource_key = ["c"]': (
        "tables[public.docs].source.source_key: expected as many columns as key (2), found 1; "
        "they are matched in order"
    ),
    TABLE + '[tables.store]\nname = "t_*.s"\nkey = ["a"]': (
        "tables[public.docs].store.name: expected a * in the table's own name as well, "
        "found 'public.docs'; a * here stands for what it stands for there"
    ),
    TABLE + '[[tables]]\nname = "public.docs"\ntext = 1\nembedding = "other"': (
        "tables[public.docs #2].text: expected a column or an SQL expression in double quotes,"
        " found 1"
    ),
    TABLE + '[[tables]]\nname = "PUBLIC.docs"\ntext = "other"': (
        "tables[PUBLIC.docs].name: [[tables]] #2 names the same table and the same embeddings as"
        " #1; keep one of them, or say in `embedding` which column each one checks, or in `where`"
        " which rows (without it, all that are left, last)"
    ),
    "[canary]\nsample = 1": (
        "tables: expected at least one [[tables]] entry, found none; "
        "integrity.example.toml shows one"
    ),
    '[tables]\nname = "docs"': "tables: expected [[tables]], found a section; check its brackets",
    "[[canary]]\nsample = 1\n"
    + TABLE: "canary: expected [canary], found a list; check its brackets",
    TABLE
    + "[provider]\nbatch_size = 2049": "provider.batch_size: expected at most 2048, found 2049",
    TABLE + "[provider]\nbatch_size = 0": "provider.batch_size: expected at least 1, found 0",
    TABLE + "[provider]\nbatch_size = true": (
        "provider.batch_size: expected a whole number, found true"
    ),
    TABLE + "[provider]\nbatch_size = 5.0": (
        "provider.batch_size: expected a whole number, found 5.0"
    ),
    TABLE
    + "[provider]\nconcurrency = 257": "provider.concurrency: expected at most 256, found 257",
    TABLE + '[provider]\nmodel = ""': (
        "provider.model: expected text, found a blank; leave an optional key out"
    ),
    TABLE + "[provider]\nmodel = 3": "provider.model: expected text in double quotes, found 3",
    TABLE + '[provider]\nbase_url = "api.openai.com"': (
        'provider.base_url: expected an http or https URL such as "https://api.openai.com/v1", '
        "found another form"
    ),
    TABLE + "[repair]\nmax_cost = -1.5": "repair.max_cost: expected at least 0, found -1.5",
    TABLE + "[repair]\nmax_cost = inf": "repair.max_cost: expected a finite number, found Infinity",
    TABLE + '[repair]\npause_file = ""': (
        "repair.pause_file: expected text, found a blank; leave an optional key out"
    ),
    TABLE + '[database]\nstatement_timeout = "30 days"': (
        "database.statement_timeout: expected at most 24 days, PostgreSQL's own limit, found 30; "
        "shorten it"
    ),
    TABLE + '[keys]\nenv = "OPENAI_API_KEY"': (
        "keys.env: expected {tenant} in the variable's name; "
        "one key for all tenants is declared with fallback_env"
    ),
    TABLE + '[keys]\nenv = "MY-KEY-{tenant}"': (
        "keys.env: expected letters, digits and _ around {tenant}, found something else; "
        'write it as "OPENAI_API_KEY__{tenant}"'
    ),
    TABLE + '[keys]\nsql = "SELECT k FROM t LIMIT 1"': (
        "keys.sql: expected %(tenant)s where the tenant's name goes; "
        "without it every tenant would get the same key"
    ),
    TABLE + """[keys]\nsql = "SELECT k FROM t WHERE n = %(tenant)s AND k LIKE 'a%'" """: (
        "keys.sql: expected no other placeholder than %(tenant)s; "
        "write a percent sign of the SQL itself as %%"
    ),
    TABLE + '[keys]\ncommand = ["get-key"]': (
        "keys.command: expected {tenant} in an argument after the program; "
        "without it every tenant would get the same key"
    ),
    TABLE + '[keys]\ncommand = ["{tenant}", "{tenant}"]': (
        'keys.command: expected a program and its arguments such as ["get-key", "{tenant}"]; '
        "the program's own name is fixed"
    ),
}


@pytest.mark.parametrize(
    ("text", "fault"), FAULTS.items(), ids=[fault.split(": ")[0] for fault in FAULTS.values()]
)
def test_a_fault_is_told_with_its_place_and_the_next_step(
    text: str, fault: str, tmp_path: Path
) -> None:
    assert faults_of(tmp_path, text) == (fault,)


def test_every_fault_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    faults = faults_of(
        tmp_path,
        """
        speed = 1
        [provider]
        batch_size = 0
        dimensions = "many"
        [[tables]]
        name = "docs"
        tenantt = "x"
        grace = "1h"
        updated_at = "u"
        custom = [
          { name = "a", failing_when = "" },
          { name = "a", failing_when = "true" },
        ]
        checks = { a = {}, b = {} }
        [[tables]]
        name = "docs"
        """,
    )
    places = {fault.split(": ")[0] for fault in faults}
    assert places == {
        "speed",
        "provider.batch_size",
        "provider.dimensions",
        "tables[docs #1].tenantt",
        "tables[docs #1].text",
        "tables[docs #2].text",
        "tables[docs #1].grace",
        "tables[docs #1].updated_at",
        "tables[docs #1].custom[a].failing_when",
        "tables[docs #1].custom[a].name",
        "tables[docs #1].checks.b",
        "tables[docs #2].name",
    }


@pytest.mark.parametrize(
    "text",
    [
        f'[database]\nurl_env = "postgresql://me:{SECRET}@host/db"\n',
        f'[database]\nurl = "postgresql://me:{SECRET}@host/db"\n',
        f'[database]\nstatement_timeout = ["{SECRET}"]\n',
        f'[keys]\nenv = "{SECRET}"\n',
        f'[keys]\nfallback_env = "{SECRET}"\n',
        f"[keys]\nsql = \"SELECT '{SECRET}'\"\n",
        f'[keys]\ncommand = ["echo", "{SECRET}"]\n',
        f'[keys]\ncommand = "{SECRET}"\n',
        f'[keys]\nacme = "{SECRET}"\n',
        f'keys = "{SECRET}"\n',
        f'[provider]\nbase_url = "https://me:{SECRET}@host/v1"\n',
        f'[provider]\nbase_url = "https://host/v1?key={SECRET}"\n',
        f'[provider]\nbase_url = ["{SECRET}"]\n',
        f'[provider]\nbase_url = "https://${{HOST:-{SECRET}}}/v1"\n',
        f'[provider]\nextra_headers = {{ "X-Gate" = "${{GATE:-{SECRET}}}" }}\n',
        f'[provider]\nextra_body = {{ user = "${{USER_ID}} {SECRET}" }}\n',
        f'[provider]\nbase_url = "https://me:{SECRET}@host:port/v1"\n',
    ],
)
def test_a_secret_pasted_into_the_file_is_never_repeated(text: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        settings_of(tmp_path, text + TABLE)
    error = caught.value
    assert len(error.errors) == 1
    assert SECRET not in f"{error!s} {error!r} {error.errors!r}"
    assert error.__context__ is None
    assert error.__cause__ is None


def test_a_section_built_in_code_never_repeats_its_input() -> None:
    with pytest.raises(ValidationError) as caught:
        Keys(env=SECRET)
    assert SECRET not in str(caught.value)


def test_a_hostile_name_cannot_break_the_line_it_is_told_in(tmp_path: Path) -> None:
    long_name = "x" * 500
    (fault,) = faults_of(
        tmp_path, f'[[tables]]\nname = "\\"a\\n\\u001b[31m{long_name}\\""\ntext = ""'
    )
    assert fault.isprintable()
    assert len(fault) < 300

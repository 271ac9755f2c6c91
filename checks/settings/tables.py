"""Defines the [[tables]] entries of the settings; reads no file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from checks.settings.faults import shown
from checks.settings.table_checks import CheckSettings, CustomCheck, without_effect
from checks.settings.values import (
    ColumnName,
    Conflict,
    Dimensions,
    Duration,
    Flag,
    Padding,
    PlainText,
    Section,
    SqlExpression,
    TableReference,
    Text,
    entries,
    readable_column,
    readable_table_name,
    value_of,
)

ProvenanceColumn = Literal["model_column", "embedded_at", "content_hash"]
Metric = Literal["cosine", "l2", "inner_product"]
IndexMethod = Literal["hnsw", "ivfflat"]


class Store(Section):
    """The table that holds the embeddings where they are not beside the text."""

    name: TableReference
    key: Annotated[tuple[ColumnName, ...], Field(min_length=1)]
    embedding: ColumnName = "embedding"
    text: SqlExpression | None = None
    model_column: ColumnName | None = None
    embedded_at: ColumnName | None = None
    content_hash: ColumnName | None = None
    insert: Mapping[ColumnName, SqlExpression] = Field(default_factory=dict)
    where: SqlExpression | None = None
    """Which of its rows are meant, where others have theirs in it too."""
    constants: Mapping[ColumnName, SqlExpression] = Field(default_factory=dict)
    """Values that its rows have in further columns of its key, and that a new row gets."""


class Source(Section):
    """The table that a chunk table's rows were cut from."""

    name: TableReference
    key: Annotated[tuple[ColumnName, ...], Field(min_length=1)]
    source_key: Annotated[tuple[ColumnName, ...], Field(min_length=1)]

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        """Keys that cannot be matched column by column."""
        yield from _unequal_keys("source_key", given.get("source_key"), "key", given.get("key"))


class Table(Section):
    """A declared target: where the text is, where the embedding is, whose it is."""

    name: TableReference
    key: Annotated[tuple[ColumnName, ...], Field(min_length=1)] = ()
    """Empty: the primary key."""
    tenant: SqlExpression | None = None
    tenant_from: Literal["schema", "table"] | None = None
    tenants: Annotated[tuple[str, ...], Field(min_length=1)] = ()
    text: SqlExpression
    embedding: ColumnName = "embedding"
    where: SqlExpression | None = None
    created_at: SqlExpression | None = None
    grace: Duration | None = None
    updated_at: SqlExpression | None = None
    embedded_at: ColumnName | None = None
    content_hash: ColumnName | None = None
    hash: SqlExpression = "md5"
    """What content_hash, the store's too, holds: the name of a digest of the text, in hexadecimal
    digits or as bytes, or else an SQL expression over the table's columns."""
    model_column: ColumnName | None = None
    group_by: Annotated[tuple[ColumnName, ...], Field(min_length=1)] = ()
    model: PlainText | None = None
    tenant_models: Mapping[Text, PlainText] = Field(default_factory=dict)
    """The models of tenants that are embedded with another model than the table's."""
    dimensions: Dimensions | None = None
    pad: Padding = False
    """Whether the stored vectors have more dimensions than the model's, and end in zeros: true, as
    many as the column's type says; a number, so many in a column that admits any."""
    required: Flag = True
    totals: Literal["exact", "estimated"] = "exact"
    """Estimated: a scan reads the rows without an embedding and no others."""
    index: IndexMethod | None = None
    metric: Metric = "cosine"
    store: Store | None = None
    source: Source | None = None
    checks: Mapping[str, CheckSettings] = Field(default_factory=dict)
    custom: tuple[CustomCheck, ...] = ()

    def check_settings(self, check: str) -> CheckSettings:
        """The settings of a built-in or custom check of this table, defaults filled in.

        What [tables.checks] says of a custom check wins over its own entry.
        """
        stated = self.checks.get(check, CheckSettings())
        own = next((custom for custom in self.custom if custom.name == check), None)
        if own is None:
            return stated
        declared = CheckSettings(min=own.min, severity=own.severity, enabled=own.enabled)
        return declared.model_copy(
            update={key: getattr(stated, key) for key in stated.model_fields_set}
        )

    def declares(self, column: ProvenanceColumn) -> bool:
        """Whether the table, or the store of its embeddings, has such a column."""
        return any(getattr(place, column, None) for place in (self, self.store))

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        """Keys that exclude or need each other, repeated names, and names without effect."""
        if "tenant" in given and "tenant_from" in given:
            yield ("tenant_from",), "tenant is given as well; keep one of the two"
        if "tenants" in given and not given.keys() & {"tenant", "tenant_from"}:
            yield ("tenants",), "needs tenant or tenant_from, which say whose a row is"
        if "tenant_models" in given and not given.keys() & {"tenant", "tenant_from"}:
            yield ("tenant_models",), "needs tenant or tenant_from, which say whose a row is"
        if "grace" in given and "created_at" not in given:
            yield ("grace",), "needs created_at, which tells how old a row is"
        holders = (given, given.get("store"))
        if "updated_at" in given and not any(
            value_of(holder, key) for holder in holders for key in ("embedded_at", "content_hash")
        ):
            yield (
                ("updated_at",),
                "needs embedded_at (or content_hash), which tells whether the embedding is older",
            )
        yield from _unusable_patterns(given)
        yield from _estimated_in_vain(given)
        if "key" in given:
            store_key = value_of(given.get("store"), "key")
            for location, words in _unequal_keys("key", store_key, "the table's key", given["key"]):
                yield ("store", *location), words
        own = [value_of(custom, "name") for custom in entries(given.get("custom"))]
        for position, name in enumerate(own):
            if isinstance(name, str) and name in own[:position]:
                yield (
                    ("custom", position, "name"),
                    f"{shown(name)} is declared twice in this table; rename one",
                )
        checks = given.get("checks")
        if isinstance(checks, Mapping):
            yield from without_effect(checks)


def given_place(entry: object) -> object:
    """Where an entry has its embeddings, validated or not: two of one table must differ in it."""
    store = value_of(entry, "store")
    if store is None:
        return readable_column(value_of(entry, "embedding") or "embedding")
    constants = value_of(store, "constants")
    return (
        readable_table_name(value_of(store, "name")),
        readable_column(value_of(store, "embedding") or "embedding"),
        value_of(store, "where"),
        str(sorted(constants.items(), key=str)) if isinstance(constants, Mapping) else None,
    )


def _unusable_patterns(given: Mapping[str, Any]) -> Iterator[Conflict]:
    """A tenant taken from a part without `*`, and a `*` below that stands for nothing."""
    name = readable_table_name(given.get("name"))
    if name is None:
        return
    has_pattern = {"schema": name.schema_is_pattern, "table": name.name_is_pattern}
    tenant_from = given.get("tenant_from")
    if isinstance(tenant_from, str) and has_pattern.get(tenant_from) is False:
        yield (
            ("tenant_from",),
            f"expected an unquoted * in the {tenant_from} part of the name, "
            f"found {shown(str(name))}",
        )
    for section in ("store", "source"):
        other = readable_table_name(value_of(given.get(section), "name"))
        if other is not None and other.is_pattern and not name.is_pattern:
            yield (
                (section, "name"),
                f"expected a * in the table's own name as well, found {shown(str(name))}; "
                "a * here stands for what it stands for there",
            )


def _estimated_in_vain(given: Mapping[str, Any]) -> Iterator[Conflict]:
    """Estimated totals where no index can find the rows, or where a share of them is asked for."""
    if given.get("totals") != "estimated":
        return
    if "store" in given:
        yield (
            ("totals",),
            "an index of one table cannot find the rows that another one lacks; leave it out beside"
            " a store",
        )
    if value_of(value_of(given.get("checks"), "completeness"), "min") is not None:
        yield (
            ("checks", "completeness", "min"),
            "is a share of the rows, which estimated totals do not tell: a small tenant that is"
            " thought large would be taken for whole; accept a number of rows, or leave totals out",
        )


def _unequal_keys(where: str, key: object, other_name: str, other: object) -> Iterator[Conflict]:
    counts = [len(columns) for columns in (key, other) if isinstance(columns, (list, tuple))]
    if len(counts) == 2 and counts[0] != counts[1]:
        yield (
            (where,),
            f"expected as many columns as {other_name} ({counts[1]}), found {counts[0]}; "
            "they are matched in order",
        )

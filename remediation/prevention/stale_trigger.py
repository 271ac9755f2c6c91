"""Builds the trigger that marks an embedding stale when its text changes.

It looks at edits of the text, never at a write of the vector, so that no repair is undone by it.
Builds SQL; runs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psycopg import sql

from checks.row_checks.row_expressions import scope_of, text_of
from checks.settings.names import fitted_name
from checks.targets.store_rows import meant
from remediation.prevention.owned_objects import MARK, OwnedObject
from remediation.prevention.script import dollar_quoted, search_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from checks.targets.stores import StoreTable
    from checks.targets.target import Target
    from remediation.prevention.stale_mark import StaleMark

TRIGGER = "zz_embedding_integrity_stale"
"""Triggers of one event fire by name: this one sees the text as the others have left it."""


def stale_trigger(target: Target, says: str = "") -> tuple[OwnedObject, OwnedObject]:
    """The trigger and its function, as objects; which an entry has at most one of."""
    schema, table = target.facts.schema, target.facts.name
    function = fitted_name("embedding_integrity_stale_", table + target.place)
    trigger = fitted_name(TRIGGER, target.place)
    return (
        OwnedObject(kind="trigger", schema=schema, table=table, name=trigger, says=says),
        OwnedObject(kind="function", schema=schema, name=function, says=says),
    )


def create_trigger(
    target: Target, mark: StaleMark, *, schemas: Sequence[str], generated: Mapping[str, str]
) -> tuple[sql.Composable, ...]:
    """The statements that make it, or replace it. `generated` as of `edited_row`."""
    trigger, function = stale_trigger(target, mark.says)
    edited = _edited(target, mark, generated)
    store = target.store
    body = (
        _in_row(target, mark, edited) if store is None else _in_store(target, store, mark, edited)
    )
    return (
        sql.SQL(
            "CREATE OR REPLACE FUNCTION {function} RETURNS trigger\n"
            "LANGUAGE plpgsql SET search_path = {path} AS {body}"
        ).format(
            function=function.identifier,
            path=search_path(schemas),
            body=dollar_quoted(body),
        ),
        function.comment,
        sql.SQL(
            "CREATE OR REPLACE TRIGGER {name} {when} UPDATE ON {table}\n"
            "FOR EACH ROW EXECUTE FUNCTION {function}"
        ).format(
            name=sql.Identifier(trigger.name),
            when=sql.SQL("BEFORE" if store is None else "AFTER"),
            table=target.identifier,
            function=function.identifier,
        ),
        trigger.comment,
    )


def edited_row(target: Target, row: sql.Composable, generated: Mapping[str, str]) -> sql.Composed:
    """A relation of one row, called like its table, for the settings' expressions.

    In a trigger generated columns have no value yet, or never: each is computed by its own
    expression, which `generated` has by the column's name.
    """
    table = sql.Identifier(target.facts.name)
    relation = sql.SQL("(SELECT {}) AS {}").format(row, table)
    if not generated:
        return relation
    columns = [
        sql.SQL("({}) AS {}").format(sql.SQL(generated[name]), sql.Identifier(name))
        if name in generated
        else sql.Identifier(name)
        for name in target.facts.columns
    ]
    return sql.SQL("(SELECT {} FROM {}) AS {}").format(sql.SQL(", ").join(columns), relation, table)


def _edited(target: Target, mark: StaleMark, generated: Mapping[str, str]) -> sql.Composed:
    """Whether the text changed; where it is the vector that is given up, of rows in scope only.

    Compared byte for byte: under some collations texts are equal that a model tells apart.
    """
    new = edited_row(target, sql.SQL("NEW.*"), generated)
    old = edited_row(target, sql.SQL("OLD.*"), generated)
    changed = sql.SQL(
        '(SELECT {text} COLLATE "C" FROM {new})\n'
        '            IS DISTINCT FROM (SELECT {text} COLLATE "C" FROM {old})'
    ).format(text=text_of(target), new=new, old=old)
    if mark.means != "null" or target.declared.where is None:
        return changed
    return sql.SQL("{}\n            AND (SELECT ({}) IS TRUE FROM {})").format(
        changed, scope_of(target), new
    )


def _unless_edited(target: Target, result: str, edited: sql.Composable) -> sql.Composed:
    """The part of a function that returns where the text did not change."""
    return sql.SQL(
        """BEGIN
        IF NOT ({edited}) THEN
            RETURN {result};
        END IF;
    EXCEPTION WHEN OTHERS THEN
        -- No edit is refused because a text cannot be told; the next scan says so.
        RAISE WARNING USING MESSAGE = {trouble} || SQLERRM;
        RETURN {result};
    END;"""
    ).format(
        edited=edited,
        result=sql.SQL("NEW" if result == "NEW" else "NULL"),
        trouble=sql.Literal(f"{MARK}cannot tell whether a text of {target.name} changed: "),
    )


def _in_row(target: Target, mark: StaleMark, edited: sql.Composable) -> sql.Composed:
    column = sql.Identifier(mark.column.name)
    return sql.SQL(
        """
#variable_conflict use_column
BEGIN
    {unless_edited}
    -- A vector that is written with its text, or was not there, is none of an earlier text.
    IF ROW(NEW.{embedding})::record OPERATOR(pg_catalog.*=) ROW(OLD.{embedding})::record
       AND NEW.{embedding} IS NOT NULL THEN
        NEW.{column} := {value};
    END IF;
    RETURN NEW;
END
"""
    ).format(
        embedding=sql.Identifier(target.embedding.name),
        unless_edited=_unless_edited(target, "NEW", edited),
        column=column,
        value=sql.SQL("OLD.{}").format(column) if mark.means == "hash" else sql.SQL("NULL"),
    )


def _in_store(
    target: Target, store: StoreTable, mark: StaleMark, edited: sql.Composable
) -> sql.Composed:
    column = sql.Identifier(mark.column.name)
    return sql.SQL(
        """
#variable_conflict use_column
BEGIN
    {unless_edited}
    UPDATE {store} AS store SET {column} = NULL
    WHERE {same_key} AND store.{column} IS NOT NULL;
    RETURN NULL;
END
"""
    ).format(
        unless_edited=_unless_edited(target, "NULL", edited),
        store=store.identifier,
        column=column,
        same_key=sql.SQL(" AND ").join(
            [
                *(
                    sql.SQL("store.{} {} NEW.{}").format(
                        sql.Identifier(theirs.name),
                        theirs.operator("=", ours),
                        sql.Identifier(ours.name),
                    )
                    for ours, theirs in zip(target.key, store.key, strict=True)
                ),
                *meant(store),
            ]
        ),
    )

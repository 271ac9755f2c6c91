"""Describes the endpoint as OpenAPI, exactly as `application` answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remediation.admin.parameters import LONGEST_NAME, MOST_NAMES, name_pattern
from remediation.admin.run_record import OUTCOMES
from remediation.admin.secret import HEADER

if TYPE_CHECKING:
    from checks.settings.integrity_toml import Settings

JSON = "application/json"
LARGEST_BATCH = 2048
"""As `[provider] batch_size` has it."""


def document(settings: Settings | None) -> dict[str, Any]:
    """The document; without settings the declared tables are left out, as their names are nobody's
    business who has no secret.
    """
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "embedding-integrity admin",
            "version": "1",
            "description": "Checks and repairs the embeddings of the declared tables.",
        },
        "paths": {
            "/api/v1/admin/backfill-embeddings": {"post": _backfill(settings)},
            "/api/v1/admin/runs/{runId}": {"get": _run("A run", JSON, _ref("Run"))},
            "/api/v1/admin/runs/{runId}/events": {
                "get": _run(
                    "A run's progress as server-sent events: `progress` with a Run as often as it"
                    " changes, and `end` with the last one",
                    "text/event-stream",
                    _object({"event": {"enum": ["progress", "end"]}, "data": {"type": "string"}}),
                )
            },
            "/api/v1/admin/runs/{runId}/report": {
                "get": _run("The incident report of a run", "text/html", {"type": "string"})
            },
            "/healthz": {"get": _open("Alive", {"200": _json("Alive", _ref("Alive"))})},
            "/readyz": {
                "get": _open(
                    "Whether the database and its extension can be reached",
                    {
                        "200": _json("Ready", _ref("Readiness")),
                        "503": _json("Not ready", _ref("Readiness")),
                    },
                )
            },
            "/openapi.json": {
                "get": _open(
                    "This document; with the secret it lists the declared tables",
                    {"200": _json("OpenAPI 3.1", {"type": "object"})},
                )
            },
        },
        "components": {
            "securitySchemes": {"secret": {"type": "apiKey", "in": "header", "name": HEADER}},
            "schemas": _schemas(),
        },
    }


def _backfill(settings: Settings | None) -> dict[str, Any]:
    return {
        "operationId": "backfillEmbeddings",
        "summary": "Re-embed what fails the checks, or with dryRun show what would be done",
        "security": [{"secret": []}],
        "parameters": [
            _parameter(
                "dryRun",
                {"type": "boolean", "default": True},
                "Write nothing and ask no provider: count and plan. A repair must say false.",
            ),
            _parameter(
                "batchSize",
                {"type": "integer", "minimum": 1, "maximum": LARGEST_BATCH},
                "Texts per request, at most",
            ),
            _parameter("maxRows", {"type": "integer", "minimum": 1}, "Rows to repair, at most"),
            _parameter(
                "maxCost", {"type": "number", "minimum": 0}, "Dollars that it may cost, at most"
            ),
            _parameter("tenantId", _names(r"^[^\u0000]*$"), "These tenants only; repeatable"),
            _parameter("table", _names(_table_pattern(settings)), "These tables only; repeatable"),
        ],
        "responses": {
            "200": _json("The run has ended; `state` and the counts say how", _ref("Run")),
            "202": {
                **_json("The run goes on", _ref("Run")),
                "headers": {
                    "Location": {
                        "description": "Where its state is",
                        "required": True,
                        "schema": {"type": "string"},
                    }
                },
            },
            **_refusals(),
            "404": _json("A selected table or tenant is not there", _ref("WrongParameters")),
            "408": _json("The request's body did not come", _ref("Error")),
            "409": _json("A run is going on already: `runId`", _ref("Busy")),
            "413": _json("The request has a large body", _ref("Error")),
            "422": _json("Parameters that cannot be meant, by name", _ref("WrongParameters")),
            "503": _json("The run's record cannot be written, or the service stops", _ref("Error")),
        },
    }


def _table_pattern(settings: Settings | None) -> str:
    if settings is None:
        return r"^[^\u0000]*$"
    return f"^({'|'.join(name_pattern(entry.name) for entry in settings.tables)})$"


def _names(pattern: str) -> dict[str, Any]:
    name = {"type": "string", "maxLength": LONGEST_NAME, "pattern": pattern}
    return {"type": "array", "maxItems": MOST_NAMES, "items": name}


def _run(summary: str, media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    name = {
        "name": "runId",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{6}$"},
    }
    return {
        "summary": summary,
        "security": [{"secret": []}],
        "parameters": [name],
        "responses": {
            "200": {"description": summary, "content": {media_type: {"schema": schema}}},
            **_refusals(),
            "404": _json("No such run, or it has no report", _ref("Error")),
        },
    }


def _refusals() -> dict[str, Any]:
    return {
        **_too_large(),
        "401": _json("No secret, or a wrong one", _ref("Error")),
        "429": {
            **_json("Too many wrong secrets from this address", _ref("Error")),
            "headers": {
                "Retry-After": {
                    "description": "Seconds",
                    "required": True,
                    "schema": {"type": "integer", "minimum": 1},
                }
            },
        },
    }


def _open(summary: str, responses: dict[str, Any]) -> dict[str, Any]:
    return {"summary": summary, "responses": {**responses, **_too_large()}}


def _too_large() -> dict[str, Any]:
    return {"431": _json("Large headers, or a long query", _ref("Error"))}


def _parameter(name: str, schema: dict[str, Any], description: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {JSON: {"schema": schema}}}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "required": list(properties),
        "properties": properties,
        "additionalProperties": False,
    }


def _schemas() -> dict[str, Any]:
    count = {"type": "integer", "minimum": 0}
    text, text_or_none = {"type": "string"}, {"type": ["string", "null"]}
    plan = _object(
        {
            "rows": {**count, "description": "That would be sent"},
            "requests": count,
            "tokens": count,
            "dollars": {"type": "number", "minimum": 0},
        }
    )
    run = {
        "runId": text,
        "state": {"enum": ["running", "finished", "stopped", "refused", "interrupted"]},
        "dryRun": {"type": "boolean"},
        "selected": {
            **count,
            "description": "Failing rows; of a repair that ended the sum of the five outcomes",
        },
        **{str(outcome): count for outcome in OUTCOMES},
        "plan": {"anyOf": [plan, {"type": "null"}]},
        "reason": {**text_or_none, "description": "Why it was refused, stopped or interrupted"},
        "exitStatus": {"type": ["integer", "null"], "description": "As pytest --remediate's"},
        "meaning": text_or_none,
        "parameters": {"type": "object"},
        "news": {"type": "array", "items": text, "description": "The latest pauses"},
        "startedAt": text,
        "finishedAt": text_or_none,
        "report": {**text_or_none, "description": "Where the incident report is"},
    }
    return {
        "Run": _object(run),
        "Error": _object({"error": text}),
        "Busy": _object({"error": text, "runId": text}),
        "WrongParameters": _object(
            {
                "error": text,
                "parameters": {"type": "object", "additionalProperties": text, "minProperties": 1},
            }
        ),
        "Alive": _object({"alive": {"const": True}}),
        "Readiness": _object(
            {
                "ready": {"type": "boolean"},
                "database": {"enum": ["reachable", "not reachable"]},
                "extension": {"enum": ["installed", "not found"]},
            }
        ),
    }

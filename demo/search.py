"""Searches the demo's rows, to show what missing embeddings cost. Reads only."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import openai
from pgvector.psycopg import register_vector

from demo.embedding import MODEL
from demo.incident import ANSWER, ANSWER_TENANT, QUESTION

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from psycopg import Connection

WIDTH = 88

NEAREST = """
SELECT title, coalesce(body, ''), embedding <=> %(vector)s AS distance
  FROM public.workflow_insights
 WHERE "tenantId" = %(tenant)s
   AND "deletedAt" IS NULL
   AND embedding IS NOT NULL
 ORDER BY distance, id
 LIMIT %(limit)s
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchHit:
    """A row that a search found. `distance` is the cosine distance, 0 (same) to 2 (opposite)."""

    title: str
    body: str
    distance: float


def question_vector(base_url: str, key: str) -> NDArray[np.float32]:
    """The embedding of the demo's question, asked of the endpoint with the tenant's own key.

    Shape (1536,). Raises openai.OpenAIError if the endpoint does not answer or refuses.
    """
    # trust_env off: a proxy of the environment must not see a request to loopback.
    http = openai.DefaultHttpxClient(trust_env=False)
    with openai.OpenAI(api_key=key, base_url=base_url, max_retries=0, http_client=http) as client:
        answer = client.embeddings.create(model=MODEL, input=QUESTION)
    return np.asarray(answer.data[0].embedding, dtype=np.float32)


def best_answers(
    connection: Connection, vector: NDArray[np.float32], tenant: str, limit: int = 3
) -> tuple[SearchHit, ...]:
    """The tenant's rows nearest to the vector, nearest first; exact, without an index."""
    register_vector(connection)
    rows = connection.execute(NEAREST, {"vector": vector, "tenant": tenant, "limit": limit})
    return tuple(
        SearchHit(title=title, body=body, distance=distance) for title, body, distance in rows
    )


def render(before: Sequence[SearchHit], after: Sequence[SearchHit]) -> str:
    """Both searches as plain text, the rows that the repair brought back marked."""
    known = {found.title for found in before}
    lines = [f'{ANSWER_TENANT} asks: "{QUESTION}"']
    for heading, answers in (("before the repair", before), ("after the repair", after)):
        lines += ["", f"  {heading}"]
        for rank, found in enumerate(answers, start=1):
            mark = "" if found.title in known else "   <- was missing"
            lines.append(f"    {rank}. {1 - found.distance:.2f}  {found.title}{mark}")
            summary = textwrap.shorten(" ".join(found.body.split()), WIDTH - 13, placeholder=" …")
            lines.append(f"             {summary}")
        if not answers:
            lines.append("    nothing found")
    if ANSWER not in {found.title for found in after}:
        lines += ["", f"  The best answer, {ANSWER}, is still not found."]
    return "\n".join(lines)

"""Turns the body of an embeddings response into vectors, or says why it cannot be trusted.

Must not repair what it reads: an answer is whole and as asked for, or nothing of it is used.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import unicodedata
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from remediation.provider.errors import ModelUnavailable, UntrustworthyResponse, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from remediation.provider.endpoint import Endpoint


class Usage(NamedTuple):
    """Tokens billed for one response; not `known` where it does not say: 0 is then no count."""

    tokens: int
    known: bool


def parse(body: bytes) -> Mapping[str, Any]:
    """The JSON object of a body. Raises UntrustworthyResponse for anything else."""
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        raise UntrustworthyResponse("expected JSON of the provider, found other text") from None
    if not isinstance(parsed, Mapping):
        raise UntrustworthyResponse(
            f"expected a JSON object from the provider, found {type(parsed).__name__}"
        )
    return parsed


def usage(response: Mapping[str, Any]) -> Usage:
    """What a response says it billed, whether or not its vectors are any good."""
    stated = response.get("usage")
    if isinstance(stated, Mapping):
        for name in ("total_tokens", "prompt_tokens"):
            tokens = stated.get(name)
            if type(tokens) is int and tokens >= 0:
                return Usage(tokens, True)
    return Usage(0, False)


def require_model(
    response: Mapping[str, Any], endpoint: Endpoint, *, may_quote: Callable[[str], bool]
) -> None:
    """Raises UntrustworthyResponse where an answer names no model that it may be of.

    That is the model as it was asked for or as it is declared. Raises ModelUnavailable where it is
    the first, and the second would be written beside the vectors. `may_quote` says whether a
    reason may repeat a string of the provider's.
    """
    answered = response.get("model")
    requested, declared = endpoint.model, endpoint.declared_model
    if isinstance(answered, str):
        if same_model(declared, answered):
            return
        if same_model(requested, answered) and not endpoint.stamped:
            return
    quoted = isinstance(answered, str) and may_quote(answered)
    stated = shown(repr(answered)[:100]) if quoted else "something else"
    if isinstance(answered, str) and same_model(requested, answered):
        raise ModelUnavailable(
            f"the tenant's endpoint answers as model {stated}, not as {declared!r}, which"
            " model_column would say; let it name that one, or declare its model in tenant_models"
        )
    expected = f"{requested!r}" if requested == declared else f"{requested!r} or {declared!r}"
    raise UntrustworthyResponse(f"expected vectors of model {expected}, found {stated}")


def vectors(
    response: Mapping[str, Any], *, texts: Sequence[str], dimensions: int
) -> NDArray[np.float32]:
    """Vectors in the order of the texts: float32, shape (texts, dimensions), finite, not zero.

    Items are put in order by their `index`, which must be 0 to count - 1, each once. Raises
    UntrustworthyResponse where anything is not as asked for, or all texts, though they differ, have
    the same vector.
    """
    items, count = response.get("data"), len(texts)
    if not isinstance(items, list):
        raise UntrustworthyResponse("expected a list of embeddings in 'data', found none")
    if len(items) != count:
        raise UntrustworthyResponse(f"expected {count} embeddings, found {len(items)}")
    ordered = np.empty((count, dimensions), dtype=np.float32)
    seen: set[int] = set()
    for item in items:
        index = item.get("index") if isinstance(item, Mapping) else None
        if type(index) is not int or not 0 <= index < count or index in seen:
            raise UntrustworthyResponse(
                f"expected each index from 0 to {count - 1} once, found one missing, repeated or "
                "out of range"
            )
        seen.add(index)
        ordered[index] = _vector(item.get("embedding"), index, dimensions)
    finite = np.isfinite(ordered).all(axis=1)
    if not finite.all():
        raise UntrustworthyResponse(
            f"expected finite numbers, embedding {int(np.argmin(finite))} holds NaN or infinity"
        )
    nonzero = ordered.any(axis=1)
    if not nonzero.all():
        raise UntrustworthyResponse(
            f"expected a vector with a length, embedding {int(np.argmin(nonzero))} is all zeros"
        )
    if (ordered == ordered[0]).all() and (different := len(set(map(_essence, texts)))) > 1:
        raise UntrustworthyResponse(
            f"expected a vector for each text, found the same one for {different} different texts"
        )
    return ordered


def same_model(requested: str, answered: str) -> bool:
    """Whether the answered model is the requested one under another spelling.

    OpenAI has answered `text-embedding-ada-002-v2` for `text-embedding-ada-002`; gateways put the
    vendor before the name (`openai/text-embedding-3-small`) in one direction or the other.
    """
    names = {requested, requested.rsplit("/", 1)[-1]} if "/" in requested else {requested}
    answers = {answered}
    if "/" not in requested:
        answers.add(answered.rsplit("/", 1)[-1])
    return any(
        answer == name or re.fullmatch(re.escape(name) + r"-v[0-9]+", answer)
        for name in names
        for answer in answers
    )


def _essence(text: str) -> str:
    """What no model overlooks: an uncased one takes texts that differ in the rest for the same."""
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKD", text.casefold())))


def _vector(embedding: object, index: int, dimensions: int) -> NDArray[np.float32]:
    if isinstance(embedding, str):
        try:
            packed = base64.b64decode(embedding, validate=True)
            vector = np.frombuffer(packed, dtype="<f4").astype(np.float32)
        except (binascii.Error, ValueError):
            raise UntrustworthyResponse(
                f"expected base64 of 4-byte floats, embedding {index} is something else"
            ) from None
    elif isinstance(embedding, list) and all(type(n) in (float, int) for n in embedding):
        with np.errstate(over="ignore"):  # beyond float32 becomes infinite, and is refused as that
            try:
                vector = np.array(embedding, dtype=np.float64).astype(np.float32)
            except OverflowError:  # an integer beyond any float
                vector = np.full(len(embedding), np.inf, dtype=np.float32)
    else:
        raise UntrustworthyResponse(
            f"expected base64 or a list of numbers, embedding {index} is something else"
        )
    if vector.shape != (dimensions,):
        raise UntrustworthyResponse(
            f"expected {dimensions} dimensions, embedding {index} has {vector.size}"
        )
    return vector

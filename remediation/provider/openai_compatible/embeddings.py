"""Asks an OpenAI-compatible endpoint for embeddings, and reads its answers.

Never retries, and never repairs an answer: it is complete and as asked for, or nothing of it is
used. Must not let a key or a text into an error, a log or a traceback.
"""

from __future__ import annotations

import json
import re
from codecs import BOM_UTF8
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import openai
from pydantic import ConfigDict, TypeAdapter
from pydantic_core import from_json

from checks.database.open_sockets import OpenSockets
from checks.targets.relation_problems import PAD_HINT
from remediation.provider.answered_names import OtherName
from remediation.provider.errors import (
    ModelUnavailable,
    ProviderUnavailable,
    Slow,
    UntrustworthyResponse,
    refusal,
)
from remediation.provider.openai_compatible.client import client_of, headers_with, unreachable
from remediation.provider.openai_compatible.exchange import Exchange
from remediation.provider.openai_compatible.model_names import repeatable, same_model
from remediation.provider.protocol import Answer, Told, TryFailed
from remediation.provider.retry import retry_after

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from pydantic import SecretStr

    from remediation.provider.endpoint import Endpoint
    from remediation.provider.errors import ProviderError

BYTES_PER_NUMBER = 40
"""Upper bound of a number in a JSON list, pretty-printed; base64 takes 5.4 bytes."""
BYTES_PER_ITEM = 4_096
"""Upper bound of what surrounds the numbers of one item."""


_BASE64 = TypeAdapter(bytes, config=ConfigDict(val_json_bytes="base64"))
"""Decodes base64 at a fifth of the cost of `binascii`, which was the most of reading an answer."""


_NUMBER = re.compile(r"-?[0-9]{1,40}(\.[0-9]{1,40})?([eE][+-]?[0-9]{1,3})?", re.ASCII)

_PLAINER: Mapping[object, object] = {"base64": "float", "float": openai.omit}
"""The next `encoding_format` to ask for: base64 is a quarter of the bytes of JSON numbers, and some
endpoints know neither, nor the parameter."""

_PLAINER_FORM = "the provider refuses this encoding_format"


class OpenAIEmbeddings:
    """An `EmbeddingProvider` by `POST .../embeddings`, as OpenAI, Azure and most servers offer.

    `timeout` is in seconds: for a silence, and for one whole answer; connecting has less, see
    `client_of`.
    """

    def __init__(self, endpoint: Endpoint, *, timeout: float = 60.0) -> None:
        self.endpoint = endpoint
        self._timeout = timeout
        self._links = OpenSockets()
        self._client = client_of(endpoint, timeout=timeout, links=self._links)
        self._encoding: object = "base64"
        """As plain as the endpoint wants it."""

    def close(self) -> None:
        """Cut the connections."""
        self._links.cut()
        self._client.close()

    def ask(self, texts: Sequence[str], key: SecretStr) -> Answer:
        """One request with this key. Raises TryFailed."""
        came = self._answered(texts, key)
        while isinstance(came, TryFailed) and came.error.reason is _PLAINER_FORM:
            came = self._answered(texts, key)
        # Raised outside the except clauses: the client's error, which holds the request with the
        # key in its headers, must not be reachable as the context.
        if isinstance(came, TryFailed):
            raise came
        return came

    def plainer(self) -> bool:
        """Ask in the next `encoding_format`; the endpoint may mean it without a word of it."""
        before, self._encoding = self._encoding, _PLAINER.get(self._encoding, self._encoding)
        return self._encoding is not before

    def _answered(self, texts: Sequence[str], key: SecretStr) -> Answer | TryFailed:
        try:
            return self._asked(texts, key)
        except Exception as error:  # whatever an answer is that nobody thought of: it is no answer
            found = type(error).__name__
        return TryFailed(
            UntrustworthyResponse(
                f"expected an answer that can be read, found one that is {found}"
            ),
            again=True,
            told=Told(tokens=None),
        )

    def _asked(self, texts: Sequence[str], key: SecretStr) -> Answer | TryFailed:
        headers: dict[str, str] = {}
        # From here on the request is billed; only the end of the answer says how much.
        tokens: int | None = 0
        failure: ProviderError
        encoding, extra = self._encoding, self.endpoint.extra_headers
        most = len(texts) * (self.endpoint.dimensions * BYTES_PER_NUMBER + BYTES_PER_ITEM)
        exchange = Exchange(seconds=self._timeout, most=most)
        try:
            with (
                exchange,
                self._client.embeddings.with_streaming_response.create(
                    # The library walks through `input`: as long as the rest of a request takes.
                    input=[],
                    # It asks for base64 wherever its own parameter asks for nothing.
                    extra_body={
                        **json.loads(self.endpoint.extra_body),
                        "input": list(texts),
                        "encoding_format": encoding,
                    },
                    model=self.endpoint.model,
                    dimensions=(
                        self.endpoint.dimensions if self.endpoint.send_dimensions else openai.omit
                    ),
                    extra_headers={
                        **{name: value.get_secret_value() for name, value in extra},
                        **headers_with(key, self._client),
                    },
                ) as response,
            ):
                headers.update(response.headers)
                tokens = None
                body = b"".join(response.iter_bytes())
                if exchange.over:
                    raise TimeoutError  # a body that ends with its link seems whole
                if len(body) > most:
                    raise UntrustworthyResponse(
                        f"expected at most {most} bytes for {len(texts)} texts, found more"
                    )
        except UntrustworthyResponse as error:
            failure = error
        except openai.APIStatusError as error:
            if encoding in _PLAINER and _about_encoding(error):
                self._encoding = _PLAINER[encoding]
                return TryFailed(ProviderUnavailable(_PLAINER_FORM), again=True)
            return self._refused(error, len(texts))
        except Exception as error:  # reading the body raises the transport's own errors
            cause = error.__cause__ or error
            late = exchange.over or isinstance(error, (openai.APITimeoutError, TimeoutError))
            if (never := unreachable(cause, self.endpoint.base_url)) is not None:
                failure = never
            elif late:
                failure = Slow(f"provider gave no whole answer within {self._timeout:g} s")
            else:
                failure = ProviderUnavailable(
                    f"connection to the provider failed ({type(cause).__name__})"
                )
        else:
            return self._read(body, headers, len(texts))
        return TryFailed(failure, again=True, told=Told(tokens=tokens, headers=headers))

    def _read(self, body: bytes, headers: Mapping[str, str], texts: int) -> Answer | TryFailed:
        tokens: int | None = None
        try:
            response = parse(body)
            tokens = billed(response)
            return Answer(
                other=other_name(response, self.endpoint),
                vectors=vectors(response, count=texts, dimensions=self.endpoint.dimensions),
                told=Told(tokens=tokens, headers=headers),
            )
        except UntrustworthyResponse as error:
            failure = error
        return TryFailed(failure, again=True, told=Told(tokens=tokens, headers=headers))

    def _refused(self, error: openai.APIStatusError, texts: int) -> TryFailed:
        headers = dict(error.response.headers)
        refused, worth_another_try = refusal(
            error.status_code,
            error.response.content,
            texts=texts,
            settings=self.endpoint.settings,
        )
        return TryFailed(
            refused,
            again=worth_another_try,
            wait=retry_after(headers) if worth_another_try else None,
            told=Told(headers=headers),
        )


def _about_encoding(error: openai.APIStatusError) -> bool:
    """Whether a refusal is of `encoding_format`, or may be: nothing is lost by a plainer one."""
    return (
        error.status_code in (400, 404, 406, 415, 422, 500, 501)
        and re.search(rb"encoding.?format|base.?64", error.response.content, re.IGNORECASE)
        is not None
    )


def parse(body: bytes) -> Mapping[str, Any]:
    """The JSON object of a body. Raises UntrustworthyResponse for anything else."""
    try:
        # Six times as fast as `json`; a mark of the byte order is none of JSON's (RFC 8259, 8.1).
        parsed = from_json(body.removeprefix(BOM_UTF8))
    except ValueError:
        raise UntrustworthyResponse("expected JSON of the provider, found other text") from None
    if not isinstance(parsed, Mapping):
        raise UntrustworthyResponse(
            f"expected a JSON object from the provider, found {type(parsed).__name__}"
        )
    return parsed


def billed(response: Mapping[str, Any]) -> int | None:
    """Tokens that a response says it billed, whether or not its vectors are any good."""
    stated = response.get("usage")
    if isinstance(stated, Mapping):
        for name in ("total_tokens", "prompt_tokens"):
            tokens = stated.get(name)
            if type(tokens) is int and tokens >= 0:
                return tokens
    return None


def other_name(response: Mapping[str, Any], endpoint: Endpoint) -> OtherName | None:
    """The name of a model in an answer, where it may be another one's; None where it may not.

    An answer may name the model as asked for or as declared, but not the first alone while the
    second would be written beside the vectors. Raises UntrustworthyResponse where it names none
    then, or what is no name.
    """
    # None stands for no name, as an empty one does.
    answered = "" if response.get("model") is None else response["model"]
    requested, declared = endpoint.model, endpoint.declared_model
    if answered == "" and not endpoint.stamped:
        # Nothing would be stamped with a name; the probe would see another model.
        return None
    expected = f"{requested!r}" if requested == declared else f"{requested!r} or {declared!r}"
    if not isinstance(answered, str):
        raise UntrustworthyResponse(f"expected vectors of model {expected}, found something else")
    if same_model(declared, answered) or answered in endpoint.answered_models:
        return None
    shown = repr(answered) if repeatable(answered, beside=requested) else "something else"
    error: ProviderError
    if same_model(requested, answered):
        if not endpoint.stamped:
            return None
        error = ModelUnavailable(
            f"the tenant's endpoint answers as model {shown}, not as {declared!r}, which"
            " model_column would say; let it name that one, or declare its model in tenant_models"
        )
        return OtherName(name=answered, shown=shown, error=error, again=False)
    if answered == "":
        raise UntrustworthyResponse(
            f"expected vectors of model {expected}, found no name of one, which model_column would"
            ' say all the same; answered_models = [""] in [provider] allows that'
        )
    error = UntrustworthyResponse(
        f"expected vectors of model {expected}, found {shown}; where that is what the endpoint"
        " calls it, add it to answered_models in [provider]"
    )
    return OtherName(name=answered, shown=shown, error=error, again=True)


def vectors(response: Mapping[str, Any], *, count: int, dimensions: int) -> NDArray[np.float32]:
    """Vectors in the order of the texts: float32, shape (texts, dimensions).

    Items are put in order by their `index`, which must be 0 to count - 1, each once, or all of it
    counted from 1; where no item has one, or each has 0, they are in order. Raises
    UntrustworthyResponse where the items are not of this form.
    """
    items = response.get("data")
    if not isinstance(items, list):
        raise UntrustworthyResponse("expected a list of embeddings in 'data', found none")
    if len(items) != count:
        raise UntrustworthyResponse(f"expected {count} embeddings, found {len(items)}")
    stated = [_index(item) for item in items]
    if stated and all(index == stated[0] in (None, 0) for index in stated):
        # Some servers leave it out, or at 0, and answer in order; the probe would see another one.
        stated = list(range(count))
    elif set(stated) == {*range(1, count + 1)}:
        stated = [index - 1 for index in stated if index is not None]
    ordered = np.empty((count, dimensions), dtype=np.float32)
    seen: set[int] = set()
    for item, index in zip(items, stated, strict=True):
        if index is None or not 0 <= index < count or index in seen:
            raise UntrustworthyResponse(
                f"expected each index from 0 to {count - 1} once, found one missing, repeated or "
                "out of range"
            )
        seen.add(index)
        ordered[index] = _vector(item.get("embedding"), index, dimensions)
    return ordered


def _index(item: object) -> int | None:
    """The index of an item, a whole number or its digits; None for none, -1 for anything else."""
    index = item.get("index") if isinstance(item, Mapping) else -1
    if isinstance(index, float) and index.is_integer():
        return int(index)
    if isinstance(index, str) and re.fullmatch(r"[0-9]{1,9}", index, re.ASCII):
        return int(index)
    return index if index is None or type(index) is int else -1


def _is_number(written: object) -> bool:
    """Whether a string is a number as JSON writes it, as some gateways send it."""
    return isinstance(written, str) and _NUMBER.fullmatch(written) is not None


def _vector(embedding: object, index: int, dimensions: int) -> NDArray[np.float32]:
    if isinstance(embedding, str):
        try:
            packed = _BASE64.validate_strings(embedding)
            vector = np.frombuffer(packed, dtype="<f4").astype(np.float32, copy=False)
        except ValueError:
            raise UntrustworthyResponse(
                f"expected base64 of 4-byte floats, embedding {index} is something else"
            ) from None
    else:
        numbers = embedding if isinstance(embedding, list) else [None]
        if not all(type(n) in (float, int) or _is_number(n) for n in numbers):
            raise UntrustworthyResponse(
                f"expected base64 or a list of numbers, embedding {index} is something else"
            )
        with np.errstate(over="ignore"):  # beyond float32 becomes infinite, and is refused as that
            try:
                vector = np.array(numbers, dtype=np.float64).astype(np.float32)
            except OverflowError:  # an integer beyond any float
                vector = np.full(len(numbers), np.inf, dtype=np.float32)
    if vector.shape != (dimensions,):
        hint = PAD_HINT if 0 < vector.size < dimensions else ""
        raise UntrustworthyResponse(
            f"expected {dimensions} dimensions, embedding {index} has {vector.size}{hint}"
        )
    return vector

"""One request for embeddings, and its whole answer, within the time and size that an answer takes.

Tries nothing again and understands nothing of the answer.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import openai

from remediation.provider.errors import UntrustworthyResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from remediation.provider.endpoint import Endpoint

BYTES_PER_NUMBER = 40
"""Upper bound of a number in a JSON list, pretty-printed; base64 takes 5.4 bytes."""
BYTES_PER_ITEM = 4_096
"""Upper bound of what surrounds the numbers of one item."""


def whole_answer(
    client: openai.OpenAI,
    endpoint: Endpoint,
    texts: Sequence[str],
    headers: dict[str, str],
    *,
    timeout: float,
    on_success: Callable[[], None],
) -> bytes:
    """The body of a successful answer; `headers` takes in those of the answer.

    `timeout` is in seconds, for the whole of it. `on_success` is called ahead of the body, once the
    status is 200. Raises the client's errors, TimeoutError, and UntrustworthyResponse for another
    status than 200 and for an answer that is too large.
    """
    deadline = time.monotonic() + timeout
    most = len(texts) * (endpoint.dimensions * BYTES_PER_NUMBER + BYTES_PER_ITEM)
    body = bytearray()
    with client.embeddings.with_streaming_response.create(
        input=list(texts),
        model=endpoint.model,
        encoding_format="base64",
        dimensions=endpoint.dimensions if endpoint.send_dimensions else openai.omit,
        extra_headers={"OpenAI-Organization": openai.omit, "OpenAI-Project": openai.omit},
    ) as response:
        headers.update(response.headers)
        if response.status_code != 200:
            raise UntrustworthyResponse(
                f"expected status 200 of the provider, found {response.status_code}"
            )
        on_success()
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > most:
                raise UntrustworthyResponse(
                    f"expected at most {most} bytes for {len(texts)} texts, found more"
                )
            if time.monotonic() > deadline:
                raise TimeoutError
    return bytes(body)

"""Compares the model that an answer names with the one that was asked for.

A name is repeated only where models are called so: anything else may be a text in disguise.
"""

from __future__ import annotations

import re

_NAMING = (
    "ada alibaba all amazon arctic azure baai babbage base bedrock bge cohere davinci "
    "dense distil distiluse e5 embed embedding embeddings en english gecko gemini gemma "
    "google granite gritlm gte hf ibm infinity instruct instructor intfloat jina jinaai "
    "l12 l6 labse large latest lite llama local m3 medium mini minilm mistral mistralai "
    "mixedbread model modernbert mpnet multi multilingual mxbai nlp nomic nomicai nvidia "
    "ollama openai paraphrase preview pro qwen qwen2 qwen3 salesforce sentence sfr "
    "similarity small snowflake stella test tei text thenlper tiny titan together uae "
    "unsupervised vertex voyage xs zh"
)
NAMING = frozenset(_NAMING.split())
"""The words that the names of embedding models are made of, lower case."""
_SUFFIX = (
    r"(-v[0-9]+|-00[0-9]|-20[0-9]{2}-?[01][0-9](-?[0-3][0-9])?|-2[0-9][01][0-9]|:latest|@[\w.-]+)"
)
MOST_DIGITS = 8
"""In all of a name: a date, or a version and a size."""


def same_model(requested: str, answered: str) -> bool:
    """Whether the answered model is the requested one under another spelling.

    OpenAI has answered `text-embedding-ada-002-v2` for `text-embedding-ada-002`; gateways put the
    vendor before the name (`openai/text-embedding-3-small`) in one direction or the other, and
    write it in another case; Ollama adds the tag that it takes by default, LM Studio the
    quantisation (`name@q8_0`), and others the date or Google's number (`-001`) of what they serve
    by the name.
    """
    requested, answered = requested.lower(), answered.lower()
    names = {requested, requested.rsplit("/", 1)[-1]} if "/" in requested else {requested}
    answers = {answered}
    if "/" not in requested:
        answers.add(answered.rsplit("/", 1)[-1])
    return any(
        answer == name or re.fullmatch(re.escape(name) + _SUFFIX, answer)
        for name in names
        for answer in answers
    )


def repeatable(answered: str, *, beside: str) -> bool:
    """Whether a name may be repeated to people: made of `NAMING`, of versions and sizes, and of the
    words of the name `beside` it.
    """
    known = NAMING | set(_words(beside))
    return sum(map(str.isdigit, answered)) <= MOST_DIGITS and all(
        word in known or re.fullmatch(r"v?[0-9]{1,4}[bm]?", word) for word in _words(answered)
    )


def _words(name: str) -> list[str]:
    return re.split(r"[-_/.:@]", name.lower())

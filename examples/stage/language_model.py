"""A language model over HTTP, for workloads that take one. Nobody is asked unless HOLDFAST_MODEL names one.

    HOLDFAST_MODEL=anthropic:NAME   ANTHROPIC_API_KEY, and ANTHROPIC_BASE_URL where it is not https://api.anthropic.com
    HOLDFAST_MODEL=openai:NAME      OPENAI_API_KEY, and OPENAI_BASE_URL where it is not https://api.openai.com/v1

Any server that speaks one of the two protocols will do; one on this machine mostly needs no key.

Laws:
1. One request a call, and no retry in here: errors reach holdfast as they are, which knows a 429 and its Retry-After.
2. The key is in a header and nowhere else: in no message, record or file. A redirect is an error, not followed with it.
3. What is read has a limit, and is decoded into declared types.
"""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.client import HTTPMessage
from typing import IO, Literal
from urllib.parse import urlsplit

import msgspec

from holdfast import FatalError, TransientError

VARIABLE = "HOLDFAST_MODEL"
SILENCE_S = 120.0  # without a byte: a long answer takes a model a minute
MOST_BYTES = 1 << 20  # of an answer: a hundred times as much as a model says
MOST_TOKENS = 2_000  # that a model may answer

Api = Literal["anthropic", "openai"]
URLS: dict[Api, str] = {"anthropic": "https://api.anthropic.com", "openai": "https://api.openai.com/v1"}


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """A model, where it is asked, and with what key."""

    api: Api
    name: str
    url: str
    key: str | None = field(repr=False)


class Block(msgspec.Struct):
    """A piece of Anthropic's answer; what is no text has none."""

    text: str = ""


class Message(msgspec.Struct):
    """Anthropic's answer."""

    content: list[Block]


class Said(msgspec.Struct):
    """What one choice of OpenAI's answer says."""

    content: str | None


class Choice(msgspec.Struct):
    """One choice of OpenAI's answer."""

    message: Said


class Completion(msgspec.Struct):
    """OpenAI's answer."""

    choices: list[Choice]


class Unredirected(urllib.request.HTTPRedirectHandler):
    """The key is for one address: a redirect ends as the HTTP error that it is."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> None:
        return


def configured(environment: Mapping[str, str]) -> LanguageModel | None:
    """The model that the environment names, or None. Raises FatalError where it names none that can be asked."""
    named = environment.get(VARIABLE, "").strip()
    if not named:
        return None
    api, _, name = named.partition(":")
    if api not in URLS or not name:
        raise FatalError(f"{VARIABLE}={named}: it is anthropic:NAME or openai:NAME")
    prefix: Api = "anthropic" if api == "anthropic" else "openai"
    own = environment.get(f"{prefix.upper()}_BASE_URL", "").strip()
    key = environment.get(f"{prefix.upper()}_API_KEY", "").strip()
    if not key and not own:
        raise FatalError(f"{VARIABLE}={named} needs {prefix.upper()}_API_KEY")
    if not (key.isascii() and key.isprintable()):  # http.client would show it in its error
        raise FatalError(f"{prefix.upper()}_API_KEY holds what no key has")
    url = (own or URLS[prefix]).rstrip("/")
    if urlsplit(url).scheme not in ("http", "https") or "@" in urlsplit(url).netloc:
        raise FatalError(
            f"{prefix.upper()}_BASE_URL is http://HOST or https://HOST, with no name or password in it"
        )
    return LanguageModel(prefix, name, url, key or None)


def ask(model: LanguageModel, task: str, material: str, idempotency_key: str) -> str:
    """What the model answers, as text; blocks until it has.

    `task` says what to do, `material` is what to do it with. Raises urllib's and http.client's errors as they are,
    TransientError for an answer that is no answer.
    """
    opener = urllib.request.build_opener(Unredirected)
    try:
        with opener.open(request_of(model, task, material, idempotency_key), timeout=SILENCE_S) as answer:
            content = answer.read(MOST_BYTES + 1)
    except urllib.error.HTTPError as error:
        error.close()
        raise
    if len(content) > MOST_BYTES:
        raise TransientError(f"{model.name} answered more than {MOST_BYTES:,} bytes")
    try:
        text = text_of(model, content).strip()
    except (msgspec.DecodeError, UnicodeDecodeError, IndexError) as error:
        raise TransientError(f"{model.name} answered what is no answer: {type(error).__name__}") from error
    if not text:
        raise TransientError(f"{model.name} answered nothing")
    return text


def request_of(
    model: LanguageModel, task: str, material: str, idempotency_key: str
) -> urllib.request.Request:
    """The request as either protocol wants it."""
    headers = {"Content-Type": "application/json", "Idempotency-Key": idempotency_key}
    said = [{"role": "user", "content": material}]
    body: dict[str, object]
    if model.api == "anthropic":
        url = f"{model.url}/v1/messages"
        headers |= {"anthropic-version": "2023-06-01"} | ({"x-api-key": model.key} if model.key else {})
        body = {"model": model.name, "max_tokens": MOST_TOKENS, "system": task, "messages": said}
    else:
        url = f"{model.url}/chat/completions"
        headers |= {"Authorization": f"Bearer {model.key}"} if model.key else {}
        body = {"model": model.name, "messages": [{"role": "system", "content": task}, *said]}
    return urllib.request.Request(url, json.dumps(body).encode(), headers, method="POST")


def text_of(model: LanguageModel, content: bytes) -> str:
    """What was said in an answer."""
    if model.api == "anthropic":
        return "".join(block.text for block in msgspec.json.decode(content, type=Message).content)
    return msgspec.json.decode(content, type=Completion).choices[0].message.content or ""

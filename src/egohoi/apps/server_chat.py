"""The OpenAI-style chat interface: messages -> question and picture, response -> completion or chunks.

A question is about one picture: the last user message gives the text, the last picture of the conversation gives the
pixels, and answered questions since that picture are the history. System messages are not read: the models know none.
"""

import json
import secrets
import time

from pydantic import BaseModel, ConfigDict, Field

from egohoi.apps.server_input import Asked, decode_image
from egohoi.errors import BadImage, BadQuery
from egohoi.models.base import Generation
from egohoi.records import Query, Response, Turn

#: Settings of that interface that would change the answer, and the only values of theirs that are kept.
_FIXED = {"n": (None, 1), "tools": (None, []), "functions": (None, []), "stop": (None, []), "logprobs": (None, False)}


class ChatBody(BaseModel):
    """A chat completion request. Fields that are not listed here are ignored, as OpenAI clients send many."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False)

    messages: list[dict] = Field(description="Messages with `content` as text, or parts {type: text} and {type: image_url}.")
    model: str | None = Field(None, description="Name of a model (GET /v1/models); the first one if left out.")
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = Field(None, description="0 (greedy) if left out.")
    top_p: float | None = None
    seed: int | None = None
    stream: bool = False


def understand(body: ChatBody) -> Asked:
    """Question, picture and settings of a chat request. Raises BadQuery, BadImage, BadConfig."""
    for key, allowed in _FIXED.items():
        value = (body.model_extra or {}).get(key)
        if value not in allowed:
            raise BadQuery(f"{key}: is not supported here: leave it out")
    text, picture, asked, history = "", None, False, []
    for k, message in enumerate(body.messages):
        if not isinstance(message.get("role"), str):
            raise BadQuery(f"messages[{k}]: needs a role (system, user or assistant)")
        words, url = _content(message.get("content"), f"messages[{k}].content")
        if url:
            picture, history = url, []
        if message["role"] == "user":
            text, asked = words, True
        elif message["role"] == "assistant" and text.strip():
            history.append(Turn(text, words))
            text, asked = "", False
    if not asked:
        raise BadQuery("messages: needs at least one message of the role user after the last answer")
    if picture is None:
        raise BadImage('messages: need a picture: {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,..."}}')
    length = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    settings = Generation(
        max_new_tokens=length,
        temperature=0.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        seed=body.seed or 0,
    )
    return Asked(decode_image(picture), "upload", Query(text, history=tuple(history)), settings, body.model, body.stream)


def _content(content, where: str) -> tuple[str, str | None]:
    """Text and the last picture's URL of a message's content."""
    if content is None or isinstance(content, str):
        return content or "", None
    if not isinstance(content, list):
        raise BadQuery(f"{where}: is a text or a list of parts, got {type(content).__name__}")
    words, url = [], None
    for k, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("text", "input_text") and isinstance(part.get("text"), str):
            words.append(part["text"])
        elif kind == "image_url":
            address = part.get("image_url")
            url = address.get("url") if isinstance(address, dict) else address
            if not isinstance(url, str):
                raise BadQuery(f"{where}[{k}].image_url: needs a url")
        else:
            raise BadQuery(f"{where}[{k}]: a part has the type text or image_url, got {str(kind)[:40]!r}")
    return "\n".join(words), url


class Completion:
    """The JSON of one completion; `response` carries boxes and masks beside the text, under the key `egohoi`."""

    def __init__(self, model: str):
        self._head = {"id": f"chatcmpl-{secrets.token_hex(12)}", "created": int(time.time()), "model": model}

    def whole(self, response: Response) -> dict:
        choice = {"index": 0, "message": {"role": "assistant", "content": response.text}, "finish_reason": "stop"}
        return {**self._head, "object": "chat.completion", "choices": [choice], "egohoi": response.to_json()}

    def chunk(self, item: str | Response, first: bool = False) -> str:
        """One server-sent event: a piece of text, or the end with the whole response."""
        done = isinstance(item, Response)
        delta = {} if done else {"content": item}
        if first:
            delta["role"] = "assistant"
        body = {**self._head, "object": "chat.completion.chunk", "choices": [
            {"index": 0, "delta": delta, "finish_reason": "stop" if done else None}]}
        if done:
            body["egohoi"] = item.to_json()
        return f"data: {json.dumps(body)}\n\n"

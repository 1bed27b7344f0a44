"""What comes in over HTTP -> a picture's bytes, a Query and a Generation, with one clear line for each bad input.

Nothing here opens a path or an address: pictures arrive as bytes, base64 or data URLs.
"""

import base64
import binascii
import difflib
import io
import json
import re
from dataclasses import dataclass

from fastapi import Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from egohoi.apps.draw import overlay
from egohoi.apps.server_worker import Refused
from egohoi.errors import BadBox, BadImage, BadQuery
from egohoi.images import Picture
from egohoi.models.base import Generation
from egohoi.records import Query, Response, Turn


class Settings(BaseModel):
    """Sampling settings; the default is greedy."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: str | None = Field(None, description="Name of a model (GET /v1/models); the first one if left out.")
    max_new_tokens: int | None = Field(None, description="Longest answer in tokens, 1..4096; left out: the model's own.")
    temperature: float = Field(0.0, description="0 is greedy, up to 5.")
    top_p: float = Field(1.0, description="Nucleus sampling, above 0 up to 1; counts with a temperature only.")
    beams: int = Field(1, description="Beam search, 1..32, with temperature 0.")
    seed: int = Field(0, description="Seed of the sampling.")
    stream: bool = Field(False, description="Server-sent events: `text` for each piece, `response` for the whole at the end.")

    def generation(self) -> Generation:
        """Raises BadConfig if a value is out of range."""
        return Generation(self.max_new_tokens, self.temperature, self.top_p, self.beams, self.seed)


class DescribeBody(Settings):
    """A picture to describe."""

    image: str | None = Field(None, description="Base64 or data URL (JSON only; in a form, `image` is the file).")
    name: str | None = Field(None, max_length=200, description="Name of the picture, repeated in the response.")


class TurnBody(BaseModel):
    """An earlier question about the same picture, and its answer."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    question: str = ""
    answer: str
    box: list[float] | None = Field(None, description="x1, y1, x2, y2 in pixels that the question was about.", min_length=4, max_length=4)


class AskBody(DescribeBody):
    """A picture and a question about it."""

    question: str = Field("", description="The question as typed; may be empty if `box` or `point` is given.")
    box: list[float] | None = Field(None, description="x1, y1, x2, y2 in pixels of the upright picture, to identify.")
    point: list[float] | None = Field(None, description="x, y in pixels of the upright picture, to identify.")
    task: str | None = Field(None, description="refer, identify, answer, analyze or ground; left out: the wording decides.")
    mask: bool | None = Field(None, description="Whether masks are wanted; left out: the model decides.")
    history: list[TurnBody] = Field(
        [], max_length=64, description="Earlier turns about this picture, oldest first (in a form: as JSON). vlm4hoi reads them, others answer the question alone."
    )

    @field_validator("history", mode="before")
    @classmethod
    def _turns(cls, value):
        if isinstance(value, str):
            try:
                return json.loads(value)
            except (ValueError, RecursionError):
                raise ValueError("is a JSON list of {question, answer}") from None
        return value

    @field_validator("box", "point", mode="before")
    @classmethod
    def _numbers(cls, value):
        # In a form these come as text: "10,20,110,220" or "[10, 20, 110, 220]".
        if isinstance(value, str):
            return [part for part in re.split(r"[\s,\[\]]+", value) if part]
        return value


@dataclass(frozen=True)
class Asked:
    """A request that was understood: image holds the encoded bytes of the picture."""

    image: bytes
    name: str
    query: Query
    settings: Generation
    model: str | None
    stream: bool


async def read(request: Request, body_type: type[DescribeBody]) -> Asked:
    """The request's form or JSON body. Raises Refused (415), BadImage, BadQuery, BadBox, BadConfig."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    data, name = None, None
    if kind == "multipart/form-data":
        async with request.form(max_files=1, max_fields=40) as form:
            values = {}
            for key, value in form.multi_items():
                if isinstance(value, str):
                    if value != "":
                        values[key] = value
                elif key == "image":
                    data, name = await value.read(), value.filename
                else:
                    raise BadQuery(f"the picture's field is named 'image', got a file in '{key[:40]}'")
        if "image" in values:
            raise BadImage("image: send the picture as a file (curl -F image=@photo.jpg), or as base64 in a JSON body")
    elif kind == "application/json":
        values = await read_json(request)
    else:
        raise Refused("send multipart/form-data with the file 'image', or application/json with 'image' as base64", 415)
    body = validated(body_type, values)
    if data is None:
        if not body.image:
            raise BadImage("image: is missing: send a file 'image' in a form, or base64 in JSON")
        data = decode_image(body.image)
    query = Query("What is happening?", task="analyze")
    if isinstance(body, AskBody):
        if body.point is not None and len(body.point) != 2:
            raise BadQuery(f"a point is x y in pixels, got {len(body.point)} numbers")
        if body.box is not None and len(body.box) != 4:
            raise BadBox(f"box of the question: expected four numbers x1 y1 x2 y2, got {len(body.box)}")
        query = Query(
            body.question, tuple(body.box) if body.box else None, tuple(body.point) if body.point else None, body.task, body.mask,
            tuple(Turn(t.question, t.answer, tuple(t.box) if t.box else None) for t in body.history),
        )
    return Asked(data, clean_name(body.name or name), query, body.generation(), body.model, body.stream)


async def read_drawing(request: Request) -> tuple[bytes, str, dict]:
    """Picture, name and response of a form that asks for a drawing. Raises Refused (415), BadImage, BadQuery."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "multipart/form-data":
        raise Refused("send multipart/form-data with the file 'image' and the field 'response'", 415)
    # A form's field may be as long as the request: masks of many things take more than the usual megabyte.
    async with request.form(max_files=1, max_fields=4, max_part_size=2**30) as form:
        image, text = form.get("image"), form.get("response")
        if image is None or isinstance(image, str):
            raise BadImage("image: is missing: send the picture as a file (curl -F image=@photo.jpg)")
        data, name = await image.read(), clean_name(image.filename)
    try:
        said = json.loads(text) if isinstance(text, str) else None
    except (ValueError, RecursionError) as error:
        raise BadQuery(f"response: is not JSON ({str(error)[:80]})") from error
    if not isinstance(said, dict):
        raise BadQuery("response: must be the JSON object that the server answered with")
    return data, name, said


def drawn(picture: Picture, said: dict) -> bytes:
    """PNG of a picture with a response on it. Raises BadQuery, BadBox, BadMask, BadImage if the two do not belong together."""
    response = Response.from_json(said, picture.pixels)
    if tuple(response.size) != tuple(picture.size):
        raise BadQuery(f"response: is about a picture of {'x'.join(map(str, response.size))}, {picture.name} has {'x'.join(map(str, picture.size))}")
    out = io.BytesIO()
    overlay(response, caption=False).save(out, "PNG")
    return out.getvalue()


async def read_json(request: Request) -> dict:
    """The JSON object in the body. Raises BadQuery."""
    try:
        values = json.loads(await request.body())
    except (ValueError, RecursionError) as error:
        raise BadQuery(f"the body is not JSON ({str(error)[:80]})") from error
    if not isinstance(values, dict):
        raise BadQuery(f"the body must be a JSON object, got {type(values).__name__}")
    return values


def validated(body_type: type[BaseModel], values: dict):
    """`values` as `body_type`. Raises BadQuery with one line that names the field and what it should be."""
    try:
        return body_type.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])[:80]
        if first["type"] == "extra_forbidden":
            near = difflib.get_close_matches(where, body_type.model_fields, 1)
            hint = f": did you mean '{near[0]}'?" if near else f": known are {', '.join(body_type.model_fields)}"
            raise BadQuery(f"unknown field '{where}'{hint}") from error
        raise BadQuery(f"{where}: {first['msg'][:1].lower()}{first['msg'][1:]}, got {str(first['input'])[:60]!r}") from error


def decode_image(text: str) -> bytes:
    """Bytes of a base64 text or data URL. Raises BadImage; addresses and paths are refused, never opened."""
    if re.match(r"(?i)(https?|ftp|file):", text):
        raise BadImage("image: the server opens no addresses: send the picture itself as a data URL (data:image/jpeg;base64,...)")
    if text[:5].lower() == "data:":
        head, comma, text = text.partition(",")
        if not comma or not head.lower().endswith(";base64"):
            raise BadImage("image: a data URL must look like data:image/jpeg;base64,...")
    try:
        return base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadImage("image: is neither base64 nor a data URL; paths on the server are never opened") from error


def clean_name(name: str | None) -> str:
    """The last part of an uploaded file's name without control characters, or "upload"."""
    stem = (name or "").replace("\\", "/").rpartition("/")[2]
    return "".join(c for c in stem if c.isprintable()).strip()[:200] or "upload"

"""The HTTP API and the web page in one FastAPI application. `create_app` makes it, `egohoi serve` runs it."""

import ipaddress
import json
import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.responses import Response as HttpResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from egohoi import __version__
from egohoi.apps import page
from egohoi.apps.server_chat import ChatBody, Completion, understand
from egohoi.apps.server_input import AskBody, Asked, DescribeBody, drawn, read, read_drawing, read_json, validated
from egohoi.apps.server_worker import Host, Refused, Worker
from egohoi.errors import EgohoiError, MissingExtra
from egohoi.models import KINDS
from egohoi.models.base import Model
from egohoi.records import Response

log = logging.getLogger("egohoi.server")


@dataclass(frozen=True)
class Limits:
    """What a server accepts. upload: bytes of a request's body. waiting: requests in the queue.

    loopback: the server listens on this machine only: requests must name it by a loopback name (a page of another site
    could otherwise reach it by a name that it points here), and model folders may be added from this machine.
    may_load: model folders may be added by anyone who reaches the server.
    """

    upload: int = 32 * 2**20
    waiting: int = 32
    loopback: bool = True
    may_load: bool = False


class PngResponse(HttpResponse):
    """Bytes of a PNG file."""

    media_type = "image/png"


class LoadBody(BaseModel):
    """A model folder to load."""

    model_config = ConfigDict(extra="forbid")

    kind: str = Field(description="nano, vlm4hoi, annexe or hf.")
    folder: str = Field(min_length=1, max_length=4096, description="The model's folder on the server's machine (hf: also a name).")


def create_app(models: dict[str, Model], limits: Limits = Limits(), loader: Callable[[str], Model] | None = None) -> FastAPI:
    """The application that serves `models` ({name: Model}, the first is the default). loader: spec -> Model, for folders
    that are added while it runs (default: egohoi.models.load)."""
    host = Host(models, loader) if loader is not None else Host(models)
    worker = Worker(limits.waiting)
    app = FastAPI(
        title="egohoi", version=__version__, docs_url=None, redoc_url=None,
        description="Hands and objects in first-person images: refer, analyse, answer, ground. Boxes are xyxy pixels of the upright picture.",
    )
    app.add_middleware(Guard, limits=limits)
    app.add_exception_handler(EgohoiError, _refuse)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _fault)

    async def answer(request: Request, asked: Asked, compute: Callable[[Model], Response]):
        if asked.stream:
            return await _events(lambda: _stream(host, asked), worker, _event)
        response = await worker.result(lambda: compute(host.choose(asked.model)), request.is_disconnected)
        return JSONResponse(response.to_json()) if response is not None else JSONResponse(None, 499)

    @app.post("/v1/ask", tags=["pictures"], openapi_extra=_body(AskBody), responses=_RESPONSES)
    async def ask(request: Request):
        """Answer a question about a picture: text, boxes with names, who holds what, masks where the model gives them."""
        asked = await read(request, AskBody)
        return await answer(request, asked, lambda model: _answer(model, host, asked))

    @app.post("/v1/describe", tags=["pictures"], openapi_extra=_body(DescribeBody), responses=_RESPONSES)
    async def describe(request: Request):
        """Every hand, active object and contact of a picture, and what is happening."""
        asked = await read(request, DescribeBody)
        return await answer(request, asked, lambda model: model.describe(host.picture(asked.image, asked.name), asked.settings))

    @app.post("/v1/chat/completions", tags=["chat"], openapi_extra=_body(ChatBody, form=False))
    async def chat(request: Request):
        """OpenAI-style chat with a picture as data URL. The last user message is the question about the last picture; turns
        since that picture are its history."""
        body = validated(ChatBody, await read_json(request))
        asked = understand(body)
        completion = Completion(asked.model or host.names[0])
        if asked.stream:
            return await _events(lambda: _stream(host, asked), worker, completion.chunk, end="data: [DONE]\n\n")
        response = await worker.result(
            lambda: _answer(host.choose(asked.model), host, asked),
            request.is_disconnected)
        return JSONResponse(completion.whole(response)) if response is not None else JSONResponse(None, 499)

    @app.post("/v1/draw", tags=["pictures"], openapi_extra=_DRAW_BODY, response_class=PngResponse, responses={400: _RESPONSES[400]})
    async def draw(request: Request):
        """A picture with a response drawn on it (boxes, names, masks, who holds what), as PNG of the picture's own size."""
        data, name, said = await read_drawing(request)
        png = await worker.result(lambda: drawn(host.picture(data, name), said), request.is_disconnected)
        return PngResponse(png)

    def loadable(request: Request) -> bool:
        return limits.may_load or (limits.loopback and is_loopback(request.client.host if request.client else ""))

    @app.get("/v1/models", tags=["models"])
    async def list_models(request: Request):
        """The models of this server, the default first, and the kinds that may be added from where you are."""
        data = [{"id": name, "object": "model", "created": 0, "owned_by": "egohoi"} for name in host.names]
        return {"object": "list", "data": data, "loadable": list(KINDS) if loadable(request) else []}

    @app.post("/v1/models", tags=["models"], openapi_extra=_body(LoadBody, form=False))
    async def add_model(request: Request):
        """Load a model folder of the server's machine; it takes the place of one that was added before."""
        if not loadable(request):
            raise Refused("models may not be added here: start the server with --allow-load, or with --model KIND:FOLDER", 403)
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            raise Refused("send application/json: {\"kind\": \"vlm4hoi\", \"folder\": \"...\"}", 415)
        body = validated(LoadBody, await read_json(request))
        name = await worker.result(lambda: host.add(f"{body.kind}:{body.folder}"))
        return {"id": name, "object": "model", "created": 0, "owned_by": "egohoi"}

    @app.get("/health", tags=["server"])
    async def health():
        """Whether the server is up, its models, and how many requests wait."""
        return {"status": "ok", "version": __version__, "models": host.names, "waiting": worker.waiting}

    page.add_routes(app, upload=limits.upload)
    return app


def _answer(model: Model, host: Host, asked: Asked) -> Response:
    return model.ask_many([(host.picture(asked.image, asked.name), asked.query)], asked.settings)[0]


def _stream(host: Host, asked: Asked) -> Iterator[str | Response]:
    """Pieces of text and the whole response at the end; runs on the worker thread."""
    model = host.choose(asked.model)
    yield from model.stream(host.picture(asked.image, asked.name), asked.query, asked.settings)


async def _events(job, worker: Worker, write: Callable[[str | Response, bool], str], end: str = "") -> StreamingResponse:
    """Server-sent events of a job's items. The first item is awaited here, so that bad input is a plain HTTP error."""
    items = worker.items(job)
    first = await anext(items)

    async def events():
        async with aclosing(items):
            try:
                yield write(first, True)
                async for item in items:
                    yield write(item, False)
                yield end
            except EgohoiError as error:
                yield f"event: error\ndata: {json.dumps(_problem(error))}\n\n"
            except Exception as error:  # noqa: BLE001 the status is sent already: the fault is told in the stream and logged
                log.error("fault while streaming:\n%s", traceback.format_exc())
                yield f"event: error\ndata: {json.dumps(_problem(error))}\n\n"

    # `X-Accel-Buffering` asks proxies such as nginx to pass each event on at once.
    return StreamingResponse(events(), media_type="text/event-stream", headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


def _event(item: str | Response, first: bool) -> str:
    if isinstance(item, Response):
        return f"event: response\ndata: {json.dumps(item.to_json())}\n\n"
    return f"event: text\ndata: {json.dumps({'text': item})}\n\n"


def is_loopback(host: str) -> bool:
    """Whether a host name or address means this machine."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Guard:
    """ASGI middleware: size of bodies, names by which a loopback server may be reached, and requests of foreign pages."""

    def __init__(self, app, limits: Limits):
        self.app, self.limits = app, limits

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        host = headers.get("host", "")
        if self.limits.loopback and not is_loopback(_without_port(host)):
            return await self._stop(403, f"this server answers on this machine only, not as '{host[:80]}'", scope, receive, send)
        origin = headers.get("origin")
        if scope["method"] not in ("GET", "HEAD") and origin is not None and origin.partition("://")[2] != host:
            return await self._stop(403, "requests of other sites' pages are refused", scope, receive, send)
        length = headers.get("content-length", "")
        if length.isdigit() and int(length) > self.limits.upload:
            return await self._stop(413, self._too_large(), scope, receive, send)
        got = 0

        async def counted():
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > self.limits.upload:
                raise HTTPException(413, self._too_large())
            return message

        await self.app(scope, counted, send)

    def _too_large(self) -> str:
        return f"the request is larger than {self.limits.upload / 2**20:g} MB: send a smaller picture, or start the server with --max-upload"

    @staticmethod
    async def _stop(status: int, message: str, scope, receive, send):
        await JSONResponse({"error": {"message": message, "type": "Refused"}}, status)(scope, receive, send)


def _without_port(host: str) -> str:
    return host.partition("]")[0] + "]" if host.startswith("[") else host.partition(":")[0]


def _problem(error: Exception) -> dict:
    known = isinstance(error, EgohoiError)
    message = " ".join(str(error).split()) if known else "the server failed on this request; its log says more"
    return {"error": {"message": message, "type": type(error).__name__ if known else "Fault"}}


async def _refuse(request: Request, error: EgohoiError) -> JSONResponse:
    status = error.status if isinstance(error, Refused) else 501 if isinstance(error, MissingExtra) else 400
    return JSONResponse(_problem(error), status, headers={"Retry-After": "2"} if status == 503 else None)


async def _http_error(request: Request, error: HTTPException) -> JSONResponse:
    """Errors of the framework itself (unknown address, wrong method, malformed form) in the shape of all others."""
    return JSONResponse({"error": {"message": str(error.detail), "type": "Refused"}}, error.status_code, headers=error.headers)


async def _fault(request: Request, error: Exception) -> JSONResponse:
    return JSONResponse(_problem(error), 500)


def _body(model: type[BaseModel], form: bool = True) -> dict:
    """The OpenAPI description of a body that the route reads itself."""
    schema = model.model_json_schema()
    schema = _inlined(schema, schema.pop("$defs", {}))
    content = {"application/json": {"schema": schema}}
    if form:
        fields = {**schema["properties"], "image": {"type": "string", "format": "binary", "description": "The picture's file."}}
        content["multipart/form-data"] = {"schema": {"type": "object", "properties": fields, "required": ["image"]}}
    return {"requestBody": {"required": True, "content": content}}


def _inlined(schema, parts: dict):
    """A JSON schema with its parts in place: references from inside another document would lead nowhere."""
    if isinstance(schema, dict):
        if "$ref" in schema:
            return _inlined(parts[schema["$ref"].rpartition("/")[2]], parts)
        return {key: _inlined(value, parts) for key, value in schema.items()}
    return [_inlined(value, parts) for value in schema] if isinstance(schema, list) else schema


_BOX = {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4}
_MASK = {"type": "object", "nullable": True, "properties": {"size": {"type": "array", "items": {"type": "integer"}}, "counts": {"type": "string"}}}
_ENTITY = {"type": "object", "properties": {
    "name": {"type": "string"}, "kind": {"enum": ["hand", "object"]}, "side": {"type": "string", "nullable": True}, "box": _BOX,
    "score": {"type": "number"}, "mask": _MASK, "holds": {"type": "array", "items": {"type": "integer"}, "nullable": True}}}
_RESPONSE = {"type": "object", "properties": {
    "image": {"type": "string"}, "size": {"type": "array", "items": {"type": "integer"}}, "query": {"type": "string"},
    "task": {"type": "string"}, "text": {"type": "string"}, "analysis": {"type": "string", "nullable": True},
    "target_found": {"type": "boolean"}, "entities": {"type": "array", "items": _ENTITY}, "model": {"type": "string"},
    "milliseconds": {"type": "object"}}}
_ERROR = {"content": {"application/json": {"example": {"error": {"message": "photo.jpg: the file is empty", "type": "BadImage"}}}}}
_RESPONSES = {
    200: {"description": "The response; masks are COCO run-lengths.", "content": {"application/json": {"schema": _RESPONSE}}},
    400: {"description": "Bad input, in one line.", **_ERROR}, 404: {"description": "No such model.", **_ERROR},
    413: {"description": "The request is too large.", **_ERROR}, 503: {"description": "Too many requests wait.", **_ERROR},
}
_DRAW_BODY = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": {"type": "object", "required": ["image", "response"], "properties": {
    "image": {"type": "string", "format": "binary", "description": "The picture's file."},
    "response": {"type": "string", "description": "The response about it, as JSON."}}}}}}}

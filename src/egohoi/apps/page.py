"""The web page: static files of the package, example pictures, and the page that documents the API. No outside requests."""

import html
import json
import re
from importlib.resources import files
from importlib.resources.abc import Traversable

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, JSONResponse, Response

from egohoi.apps import draw

_TYPES = {"html": "text/html", "css": "text/css", "js": "text/javascript", "svg": "image/svg+xml", "jpg": "image/jpeg", "png": "image/png"}
#: The page may load and talk to its own server only; pictures are also its own data (`blob:` for what the user chose).
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-cache",
}


def add_routes(app: FastAPI, upload: int) -> None:
    """Add the page to an application. upload: bytes of the largest request, told to the page."""
    static = files("egohoi.apps") / "static"

    @app.get("/", include_in_schema=False)
    async def index():
        return _file(static / "index.html")

    @app.get("/static/{name}", include_in_schema=False)
    async def asset(name: str):
        return _file(static / name) if _plain(name) else _missing()

    @app.get("/static/examples/{name}", include_in_schema=False)
    async def example(name: str):
        return _file(static / "examples" / name) if _plain(name) else _missing()

    @app.get("/page.json", include_in_schema=False)
    async def setup():
        return JSONResponse({
            "upload": upload, "examples": examples(static), "mask_opacity": draw.MASK_OPACITY,
            "hand_colors": draw.HAND_COLORS, "object_colors": draw.OBJECT_COLORS,
        }, headers={"Cache-Control": "no-cache"})

    @app.get("/docs", include_in_schema=False)
    async def docs():
        return HTMLResponse(document(app.openapi()), headers=_HEADERS)


def examples(static: Traversable) -> list[dict]:
    """The example pictures of the package: [{"url", "title"}], by name."""
    folder = static / "examples"
    if not folder.is_dir():
        return []
    names = sorted(f.name for f in folder.iterdir() if f.name.endswith((".jpg", ".png")))
    return [{"url": f"static/examples/{n}", "title": n.rpartition(".")[0].replace("-", " ").replace("_", " ")} for n in names]


def _plain(name: str) -> bool:
    """A file name without folders, of a kind that the page consists of."""
    return re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name) is not None and name.rpartition(".")[2] in _TYPES


def _file(path: Traversable) -> Response:
    if not path.is_file():
        return _missing()
    return Response(path.read_bytes(), media_type=_TYPES[path.name.rpartition(".")[2]], headers=_HEADERS)


def _missing() -> Response:
    return JSONResponse({"error": {"message": "no such page", "type": "Refused"}}, 404)


def _prose(text: str) -> str:
    """HTML of a description, in which code stands between backticks."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def document(api: dict) -> str:
    """The API's documentation as one HTML page, from its OpenAPI description."""
    parts = []
    for path, methods in api["paths"].items():
        for method, about in methods.items():
            parts.append(f"<section><h2><code>{method.upper()} {html.escape(path)}</code></h2><p>{_prose(about.get('description', ''))}</p>")
            content = about.get("requestBody", {}).get("content", {})
            if content:
                parts.append(f"<p class=muted>Body: {html.escape(' or '.join(content))}</p><table><tr><th>field<th>type<th>meaning")
                for name, field in next(iter(content.values()))["schema"]["properties"].items():
                    kind = field.get("type") or "/".join(k.get("type", "") for k in field.get("anyOf", []) if k.get("type") != "null")
                    parts.append(f"<tr><td><code>{name}</code><td>{kind}<td>{_prose(field.get('description', ''))}")
                parts.append("</table>")
            for status, reply in about.get("responses", {}).items():
                if status not in ("200", "422"):
                    parts.append(f"<p class=muted>{status}: {_prose(reply['description'])}</p>")
            parts.append("</section>")
    schema = html.escape(json.dumps(api["paths"]["/v1/ask"]["post"]["responses"]["200"]["content"]["application/json"]["schema"], indent=1))
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'><title>egohoi API</title>"
        "<link rel=stylesheet href=static/style.css><body class=docs><main><h1>egohoi API</h1>"
        f"<p>{html.escape(api['info'].get('description', ''))} The machine-readable description is <a href=openapi.json>openapi.json</a>.</p>"
        "<pre>curl -F image=@photo.jpg -F question='Where is the left hand?' http://127.0.0.1:7860/v1/ask</pre>"
        + "".join(parts) + f"<section><h2>The response</h2><pre>{schema}</pre></section></main></body></html>"
    )

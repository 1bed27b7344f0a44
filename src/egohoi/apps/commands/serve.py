"""`egohoi serve`: the web page and the HTTP API on one port."""

import socket
from typing import Annotated

import typer

from egohoi.errors import BadConfig, need


def serve(
    model: Annotated[list[str] | None, typer.Option(help="A model: nano, or KIND:FOLDER; may be given several times, the first is the default.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 127.0.0.1 is this machine only, 0.0.0.0 the whole network.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 7860,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...; default: the best there is.")] = None,
    precision: Annotated[str | None, typer.Option(help="float32, bfloat16, float16, int8 or int4; default: the model's own.")] = None,
    max_upload: Annotated[int, typer.Option(min=1, max=1024, help="Largest request in MB.")] = 32,
    waiting: Annotated[int, typer.Option(min=1, max=10000, help="Most requests that may wait; more get status 503.")] = 32,
    allow_load: Annotated[bool, typer.Option("--allow-load", help="Let everyone who reaches the server load model folders of this machine.")] = False,
) -> int:
    """Web page and HTTP API (also OpenAI-style). Loopback by default; stop it with Ctrl-C."""
    uvicorn = need("uvicorn", "serve")
    need("fastapi", "serve")
    need("python_multipart", "serve")
    from egohoi.apps.server import Limits, create_app, is_loopback
    from egohoi.apps.server_worker import name_of
    from egohoi.models import load

    listener = _listen(host, port)
    models: dict = {}
    for spec in model or ["nano"]:
        models[name_of(spec, models)] = load(spec, device=device, precision=precision)
    limits = Limits(upload=max_upload * 2**20, waiting=waiting, loopback=is_loopback(host), may_load=allow_load)
    app = create_app(models, limits, lambda spec: load(spec, device=device, precision=precision))

    name = f"[{host}]" if ":" in host else host
    url = f"http://{name if host not in ('0.0.0.0', '::') else '127.0.0.1'}:{listener.getsockname()[1]}/"
    if not limits.loopback:
        print("note: everyone who reaches this address can use the server; there is no password", flush=True)
    print(f"egohoi: {', '.join(models)} at {url}  (API: {url}docs; stop with Ctrl-C)", flush=True)

    class Server(uvicorn.Server):
        async def startup(self, sockets=None):
            await super().startup(sockets)
            if open_page:
                import webbrowser

                webbrowser.open(url)

    Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3)).run(sockets=[listener])
    return 0


def _listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises BadConfig if the address is taken or not of this machine."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # Listening already here: a second server on the same port must fail before it loads its models.
        listener.listen(128)
    except OSError as error:
        reason = error.strerror or str(error)
        raise BadConfig(f"cannot listen on {host} port {port} ({reason}): choose another with --port, or --port 0 for a free one") from error
    return listener

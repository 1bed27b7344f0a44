"""`egohoi models`: the models of this package, and what fits the machine."""

from typing import Annotated

import typer


def models(
    json_output: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    tokens: Annotated[int, typer.Option(help="Length of a conversation that the key-value cache is counted for.", min=1)] = 512,
) -> None:
    """Models, and what fits this machine: bytes computed from the shapes, memory as the system reports it."""
    import json

    machine = _machine()
    rows = _rows(machine, tokens)
    if json_output:
        typer.echo(json.dumps({"machine": machine, "models": rows}))
        return
    from rich.console import Console
    from rich.table import Table

    for place in machine:
        typer.echo(f"{place['name']}: {place['free'] / 1e9:.1f} GB free of {place['total'] / 1e9:.1f} GB")
    table = Table("model", "precision", "weights", "with cache", *(f"fits {p['device']}" for p in machine), box=None, pad_edge=False)
    for row in rows:
        cells = ["yes" if row["fits"][p["device"]] else "no" for p in machine]
        table.add_row(row["model"], row["precision"], f"{row['weights'] / 1e9:.2f} GB", f"{row['needed'] / 1e9:.2f} GB", *cells)
    Console().print(table)
    typer.echo(f"Weights and a cache of {tokens} tokens; activations come on top (some 10 %). hf:FOLDER runs others.")


def _machine() -> list[dict]:
    import torch

    found = []
    for k in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        free, total = torch.cuda.mem_get_info(k)
        found.append({"device": f"cuda:{k}", "name": torch.cuda.get_device_name(k), "free": free, "total": total})
    free, total = _memory()
    return [*found, {"device": "cpu", "name": "CPU", "free": free, "total": total}]


def _memory() -> tuple[int, int]:
    """(free, total) bytes of main memory; what the kernel says can be had without swapping."""
    import os

    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            table = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in file if line.split()[-1] == "kB"}
        return table["MemAvailable"], table["MemTotal"]
    except (OSError, KeyError):
        total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return total, total


def _rows(machine: list[dict], tokens: int) -> list[dict]:
    from importlib.util import find_spec

    rows = []
    if all(find_spec(name) for name in ("transformers", "peft", "accelerate")):
        from egohoi.models.vlm4hoi_folder import PRECISIONS, shapes_of, weight_bytes
        from egohoi.models.vlm4hoi_module import VLM4HOIConfig

        config = VLM4HOIConfig()
        shapes = shapes_of(config)
        for precision in PRECISIONS:
            weights = weight_bytes(shapes, precision)
            rows.append(_row("vlm4hoi (7B)", precision, weights, _cache(config, precision, tokens), machine))
        rows += _annexe(machine, tokens)
    return [*_embedded(machine), *rows]


def _annexe(machine: list[dict], tokens: int) -> list[dict]:
    """ANNEXE as published: its language side in each precision that it offers, its mask side always in float32."""
    import torch
    from accelerate import init_empty_weights

    from egohoi.models.annexe import PRECISIONS
    from egohoi.models.annexe_module import AnnexeConfig, AnnexeModule

    config = AnnexeConfig()
    with init_empty_weights(include_buffers=False):
        module = AnnexeModule(config)
    language = sum(parameter.numel() for parameter in module.language.parameters())
    masks = sum(parameter.numel() for parameter in module.parameters()) - language
    return [
        _row("annexe (7B)", name, language * torch.finfo(dtype).bits // 8 + masks * 4, _cache(config.language, name, tokens), machine)
        for name, dtype in PRECISIONS.items()
    ]


def _cache(config, precision: str, tokens: int) -> int:
    """Bytes of keys and values: in 16 bits, or 32 where everything is computed in float32."""
    from egohoi.models.vlm4hoi_folder import cache_bytes

    return cache_bytes(config, tokens) * (2 if precision == "float32" else 1)


def _embedded(machine: list[dict]) -> list[dict]:
    """The weights that come with the package, by the size of their files."""
    from pathlib import Path

    import egohoi

    size = sum(file.stat().st_size for file in Path(egohoi.__file__).parent.rglob("*.safetensors"))
    return [_row("nano (embedded)", "as stored", size, 0, machine)] if size else []


def _row(model: str, precision: str, weights: int, cache: int, machine: list[dict]) -> dict:
    needed = weights + cache
    return {
        "model": model, "precision": precision, "weights": weights, "needed": needed,
        # A tenth more for activations: what fits to the last byte does not run.
        "fits": {place["device"]: needed * 1.1 < place["free"] for place in machine},
    }

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
        from egohoi.models.vlm4hoi_folder import PRECISIONS, cache_bytes, shapes_of, weight_bytes
        from egohoi.models.vlm4hoi_module import VLM4HOIConfig

        config = VLM4HOIConfig()
        shapes = shapes_of(config)
        for precision in PRECISIONS:
            weights = weight_bytes(shapes, precision)
            rows.append(_row("vlm4hoi (7B)", precision, weights, cache_bytes(config, tokens), machine))
    return [*_embedded(machine), *rows]


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

"""`egohoi train CONFIG [key=value ...]`: read the configuration and hand it to its recipe."""

import importlib
import importlib.util
from typing import Annotated

import typer

from egohoi.errors import BadConfig

#: recipe -> module with `run(config)`; any other importable module name may stand in a configuration as well.
RECIPES = {"vlm4hoi": "egohoi.training.vlm4hoi", "annexe": "egohoi.training.annexe", "nano": "egohoi.training.nano"}


def train(
    config: Annotated[str, typer.Argument(help="YAML file, for example configs/vlm4hoi_finetune.yaml")],
    changes: Annotated[
        list[str] | None, typer.Argument(metavar="[key=value ...]", help="Keys to change, for example loop.steps=100 data.0.ratio=2")
    ] = None,
) -> int | None:
    """Train a model by a configuration. The same command goes on where an earlier run was stopped.

    On several processes: torchrun --nproc-per-node N -m egohoi train CONFIG, or accelerate launch -m egohoi train CONFIG.
    """
    from egohoi.training.config import override, read

    settings = override(read(config), changes or ())
    result = importlib.import_module(recipe_module(settings.get("recipe"))).run(settings)
    if getattr(result, "files", ()):
        typer.echo("wrote " + ", ".join(map(str, result.files)))
    if getattr(result, "finished", True) is False:
        typer.echo(f"stopped after step {result.step}: the same command goes on", err=True)
        return 130
    return None


def recipe_module(name) -> str:
    """Module of a recipe: one of RECIPES, or the name of an importable module of one's own. Raises BadConfig."""
    import difflib

    if not isinstance(name, str):
        raise BadConfig(f"recipe: missing: name one of {', '.join(RECIPES)} (or a module of your own that has run(config))")
    if name in RECIPES:
        return RECIPES[name]
    try:
        found = importlib.util.find_spec(name) is not None
    except (ImportError, ValueError):
        found = False
    if not found:
        near = difflib.get_close_matches(name, RECIPES, 1)
        raise BadConfig(
            f"recipe: no recipe '{name}'"
            + (f": did you mean '{near[0]}'?" if near else f": known are {', '.join(RECIPES)} (or a module of your own, importable)")
        )
    return name

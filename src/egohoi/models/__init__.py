"""Models: image + text -> Response. One file per model; `load` finds it by its kind."""

import importlib

from egohoi.errors import BadWeights
from egohoi.models.base import Generation, Model

__all__ = ["Generation", "KINDS", "Model", "load"]

#: kind of a model -> (module, class); the class has `from_pretrained(folder, device=..., precision=...)`.
KINDS = {
    "nano": ("egohoi.models.nano", "Nano"),
    "vlm4hoi": ("egohoi.models.vlm4hoi", "VLM4HOI"),
    "annexe": ("egohoi.models.annexe", "Annexe"),
    "hf": ("egohoi.models.generalist", "Generalist"),
}


def load(spec: str = "nano", *, device: str | None = None, precision: str | None = None) -> Model:
    """Load a model by its specification: "nano" (embedded), "nano:FOLDER", "vlm4hoi:FOLDER", "annexe:FOLDER",
    "hf:NAME_OR_FOLDER".

    device: "cpu", "cuda", "cuda:1", ...; None: the best there is. precision: "float32", "bfloat16", "float16",
    "int8", "int4"; None: the model's own default for the device. Raises BadWeights for an unknown kind or bad folder.
    """
    kind, _, folder = str(spec).partition(":")
    if kind not in KINDS:
        raise BadWeights(
            f"model '{spec}': unknown kind '{kind}'; write nano, or KIND:FOLDER with KIND one of {', '.join(KINDS)}"
        )
    if kind != "nano" and not folder:
        raise BadWeights(f"model '{spec}': name its folder, as in {kind}:FOLDER")
    module, name = KINDS[kind]
    return getattr(importlib.import_module(module), name).from_pretrained(folder or None, device=device, precision=precision)

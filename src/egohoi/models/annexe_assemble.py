"""ANNEXE out of other parts: a language model, a vision tower and a Depth-Anything, each a folder of `transformers`.

`plan` reads their configurations, `fill` their weights. The projector, the mask tokens and the mask side are fresh.
"""

import json
from dataclasses import replace
from pathlib import Path

import torch

from egohoi.errors import BadConfig, BadWeights, need
from egohoi.models import annexe_convert, annexe_names, weights
from egohoi.models.annexe_module import AnnexeConfig, AnnexeModule
from egohoi.models.vlm4hoi_module import VLM4HOIConfig

#: What a saved configuration says of files and precision rather than of the network.
_OF_FILES = ("transformers_version", "_name_or_path", "architectures", "dtype", "torch_dtype")


def plan(
    llm: str, tower: str, depth_anything: str | None = None, *, image_size: int | None = None, lora_rank: int = 64,
    lora_targets: tuple[str, ...] = ("q_proj", "v_proj"),
):
    """(AnnexeConfig, tokenizer) of a network of these folders.

    depth_anything: folder, or the authors' file; None takes the pixel features from the tower. image_size: pixels of a side
    that the tower reads, None for its own. Raises BadWeights, BadConfig.
    """
    words, sight = _config(llm), _config(tower)
    sight = getattr(sight, "vision_config", sight)
    tokenizer = _tokenizer(llm)
    side = image_size or getattr(sight, "image_size", None)
    if not isinstance(side, int) or not isinstance(getattr(sight, "patch_size", None), int):
        raise BadConfig(f"{tower}: says no image_size and patch_size: this is no vision tower of square pictures and patches")
    text = getattr(words, "text_config", words)
    ends = text.eos_token_id if text.eos_token_id is not None else tokenizer.eos_token_id
    language = VLM4HOIConfig(
        image_size=side, patch_size=sight.patch_size, vision_width=sight.hidden_size, vision_blocks=sight.num_hidden_layers,
        vision_heads=sight.num_attention_heads, vision_mlp=getattr(sight, "intermediate_size", 4 * sight.hidden_size),
        lora_rank=lora_rank, lora_targets=lora_targets, inference_bos=1, max_new_tokens=64,
        llama={"vocab_size": text.vocab_size, "hidden_size": text.hidden_size, "bos_token_id": tokenizer.bos_token_id, "eos_token_id": ends},
    )
    config = AnnexeConfig(language=language, llm=_plain(words), tower=_plain(sight), **_colours(tower))
    if depth_anything is None:
        return replace(config, pixels="tower"), tokenizer
    found = annexe_convert.depth_config(_weights(depth_anything), Path(depth_anything), None)
    return replace(config, depth_anything=found, pixel_size=448 // found["patch_size"] * found["patch_size"]), tokenizer


def fill(module: AnnexeModule, llm: str, tower: str, depth_anything: str | None = None) -> None:
    """Put the weights of the folders into a network of `plan`'s configuration, strictly. Raises BadWeights."""
    language = module.language
    donor = _loaded(need("transformers", "vlm").AutoModelForCausalLM, llm)
    state, own = donor.state_dict(), language.llama_model.state_dict()
    for part, ours in (
        (donor.get_input_embeddings(), language.llama_model.get_input_embeddings()),
        (donor.get_output_embeddings(), language.llama_model.get_output_embeddings()),
    ):
        ours.base.load_state_dict(part.state_dict())
        # a new token's chance starts as that of any other
        ours.extra.data.copy_(part.weight.float().mean(0, keepdim=True).expand_as(ours.extra))
    filled = set()
    for name, tensor in state.items():
        stem, _, leaf = name.rpartition(".")
        target = next((n for n in (name, f"{stem}.base_layer.{leaf}") if n in own), None)
        if target is not None:
            _copy(own[target], tensor, f"{llm}: '{name}'")
            filled.add(target)
    lacking = [n for n in own if n not in filled and ".lora_" not in n and ".base." not in n and not n.endswith(".extra")]
    if lacking:
        raise BadWeights(f"{llm}: has nothing for '{lacking[0]}' ({len(lacking)} weights): it is not the language model of this configuration")
    del donor, state
    sight = _loaded(type(language.vision), tower)
    language.vision.load_state_dict(sight.state_dict())
    if depth_anything is not None:
        source, own = _weights(depth_anything), module.pixels.state_dict()
        filled = set()
        for name in source.names():
            for place in annexe_names.depth_place(name):
                target = (place.target or "").removeprefix("pixels.")
                if target in own:
                    tensor = source.tensor(name)
                    _copy(own[target], tensor if place.part is None else tensor.chunk(3)[place.part], f"{depth_anything}: '{name}'")
                    filled.add(target)
        lacking = [n for n in own if n.startswith("net.") and n not in filled]
        if lacking:
            raise BadWeights(f"{depth_anything}: has nothing for '{lacking[0]}' ({len(lacking)} weights)")


def _copy(own: torch.Tensor, tensor: torch.Tensor, what: str) -> None:
    if own.shape != tensor.shape:
        raise BadWeights(f"{what} has shape {list(tensor.shape)}, the network needs {list(own.shape)}")
    with torch.no_grad():
        own.copy_(tensor)


def _weights(path: str):
    return weights.WeightFolder(path) if Path(path).is_dir() else weights.WeightFile(path)


def _config(folder: str):
    if not (Path(folder) / "config.json").is_file():
        raise BadWeights(f"{folder}: no config.json there: name a folder of transformers")
    try:
        return need("transformers", "vlm").AutoConfig.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the library raises many kinds
        raise BadWeights(f"{folder}: its configuration cannot be read ({str(error).splitlines()[0][:100]})") from error


def _loaded(kind, folder: str):
    """The network of a folder in float32. Raises BadWeights if a weight is missing."""
    try:
        model, info = kind.from_pretrained(folder, local_files_only=True, dtype=torch.float32, output_loading_info=True)
    except Exception as error:  # the library raises many kinds
        raise BadWeights(f"{folder}: its weights cannot be read ({str(error).splitlines()[0][:100]})") from error
    missing = sorted(info["missing_keys"])
    if missing:
        raise BadWeights(f"{folder}: '{missing[0]}' is missing ({len(missing)} weights): it is damaged or of another kind")
    return model


def _tokenizer(folder: str):
    try:
        return need("transformers", "vlm").AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the library raises many kinds
        raise BadWeights(f"{folder}: the tokenizer cannot be read ({str(error).splitlines()[0][:100]})") from error


def _plain(config) -> dict:
    values = {k: v for k, v in config.to_dict().items() if k not in _OF_FILES}
    return json.loads(json.dumps(values))


def _colours(folder: str) -> dict:
    """Mean and standard deviation of the tower's pictures, if the folder says them."""
    path = Path(folder) / "preprocessor_config.json"
    if not path.is_file():
        return {}
    values = weights.read_json(path)
    found = {"mean": values.get("image_mean"), "std": values.get("image_std")}
    return {k: tuple(v) for k, v in found.items() if isinstance(v, list) and len(v) == 3}

"""`egohoi convert annexe`: tiny random files under the names of the released code, every tensor followed to its place."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

import egohoi
from egohoi.apps.cli import main
from egohoi.errors import BadWeights
from egohoi.models import annexe_names
from egohoi.models.annexe import load_module, read_config
from egohoi.models.annexe_convert import convert, plan, shapes_of
from egohoi.models.annexe_module import AnnexeConfig

WIDTH, BLOCKS, PATCH, GRID = 12, 4, 14, 4
NECK, FUSION, HEAD = (4, 6, 8, 10), 8, 6
#: of the released code, whatever the sizes of the rest
MASK_SIDE = {
    "depth_decoder.convA.weight": (256, 128, 3, 3), "depth_decoder.convA.bias": (128,), "depth_decoder.convB.weight": (128, 128, 3, 3),
    "depth_decoder.convB.bias": (128,), "depth_decoder.decoder.0.weight": (128, 128, 4, 4), "depth_decoder.decoder.0.bias": (128,),
    "depth_decoder.decoder.2.weight": (128, 64, 4, 4), "depth_decoder.decoder.2.bias": (64,), "depth_decoder.decoder.4.weight": (1, 64, 3, 3),
    "depth_decoder.decoder.4.bias": (1,), "with_mask_classfier.conv1.weight": (128, 256, 3, 3), "with_mask_classfier.conv1.bias": (128,),
    "with_mask_classfier.conv2.weight": (64, 128, 3, 3), "with_mask_classfier.conv2.bias": (64,), "with_mask_classfier.fc1.weight": (256, 16384),
    "with_mask_classfier.fc1.bias": (256,), "with_mask_classfier.fc2.weight": (1, 256), "with_mask_classfier.fc2.bias": (1,),
    "mask_decoder.deconv1.weight": (256, 128, 4, 4), "mask_decoder.deconv1.bias": (128,), "mask_decoder.deconv2.weight": (128, 64, 4, 4),
    "mask_decoder.deconv2.bias": (64,), "mask_decoder.deconv3.weight": (64, 16, 4, 4), "mask_decoder.deconv3.bias": (16,),
    "mask_decoder.deconv4.weight": (16, 4, 4, 4), "mask_decoder.deconv4.bias": (4,), "linear_layer.weight": (256, 768), "linear_layer.bias": (256,),
}


def depth_shapes(width=WIDTH, blocks=BLOCKS, grid=GRID, neck=NECK, fusion=FUSION, head=HEAD):
    """Names and shapes of `depth_anything_v2_*.pth`, at a tiny size unless told otherwise."""
    shapes = {
        "pretrained.cls_token": (1, 1, width), "pretrained.pos_embed": (1, 1 + grid * grid, width), "pretrained.mask_token": (1, width),
        "pretrained.patch_embed.proj.weight": (width, 3, PATCH, PATCH), "pretrained.patch_embed.proj.bias": (width,),
    }
    for k in range(blocks):
        b = f"pretrained.blocks.{k}."
        for stem, shape in (
            ("norm1", (width,)), ("attn.qkv", (3 * width, width)), ("attn.proj", (width, width)), ("norm2", (width,)),
            ("mlp.fc1", (4 * width, width)), ("mlp.fc2", (width, 4 * width)),
        ):
            shapes |= {f"{b}{stem}.weight": shape, f"{b}{stem}.bias": shape[:1]}
        shapes |= {f"{b}ls1.gamma": (width,), f"{b}ls2.gamma": (width,)}
    shapes |= {"pretrained.norm.weight": (width,), "pretrained.norm.bias": (width,)}
    for k, size in enumerate(neck):
        shapes |= {f"depth_head.projects.{k}.weight": (size, width, 1, 1), f"depth_head.projects.{k}.bias": (size,)}
    for k, side in ((0, 4), (1, 2), (3, 3)):
        shapes |= {f"depth_head.resize_layers.{k}.weight": (neck[k], neck[k], side, side), f"depth_head.resize_layers.{k}.bias": (neck[k],)}
    s = "depth_head.scratch."
    for k in range(4):
        shapes[f"{s}layer{k + 1}_rn.weight"] = (fusion, neck[k], 3, 3)
        r = f"{s}refinenet{k + 1}."
        shapes |= {f"{r}out_conv.weight": (fusion, fusion, 1, 1), f"{r}out_conv.bias": (fusion,)}
        for unit in (1, 2):
            for conv in (1, 2):
                c = f"{r}resConfUnit{unit}.conv{conv}."
                shapes |= {c + "weight": (fusion, fusion, 3, 3), c + "bias": (fusion,)}
    for stem, shape in (("output_conv1", (fusion // 2, fusion, 3, 3)), ("output_conv2.0", (head, fusion // 2, 3, 3)), ("output_conv2.2", (1, head, 1, 1))):
        shapes |= {f"{s}{stem}.weight": shape, f"{s}{stem}.bias": shape[:1]}
    return shapes


def numbers(shapes, shift=0.0):
    """Weights by a formula that any program can repeat: name by name, 0.4 sin(i + shift); norms and scales around 1."""
    state, place = {}, 0
    for name, shape in shapes.items():
        count = int(np.prod(shape))
        values = 0.4 * np.sin(np.arange(place, place + count) * 0.7 + shift)
        if name.endswith((".gamma", "norm1.weight", "norm2.weight", "norm.weight")):
            values = 1 + 0.5 * values
        state[name] = torch.from_numpy(values.reshape(shape).astype(np.float32))
        place += count
    return state


def trained_depth(shapes):
    """What the released code trains of Depth-Anything: `output_conv` and every name of the head with a 4."""
    return {n: s for n, s in shapes.items() if n.startswith("depth_head") and ("output_conv" in n or "4" in n)}


@pytest.fixture(scope="module")
def files(official, tmp_path_factory):
    """(folder with llama/, eva.pth, depth.pth, checkpoint.pth, the states by file)"""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("released")
    states = official(folder)
    states["depth"] = numbers(depth_shapes())
    torch.save(states["depth"], folder / "depth.pth")
    mine = {f"depth_estimation_model.{n}": t for n, t in numbers(trained_depth(depth_shapes()), shift=2.0).items()}
    states["checkpoint"] = states["checkpoint"] | mine | {n: torch.zeros(s) for n, s in MASK_SIDE.items()}
    parameter = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([parameter])
    torch.save(
        {"model": states["checkpoint"], "optimizer": optimizer.state_dict(), "config": {"run": {"amp": True}}, "scaler": None, "epoch": 3},
        folder / "checkpoint.pth",
    )
    return folder, states


def arguments(folder):
    names = {"llama": "llama", "eva": "eva.pth", "checkpoint": "checkpoint.pth", "depth": "depth.pth"}
    return {**{k: folder / n for k, n in names.items()}, "vit_heads": 3, "image_size": 56, "depth_heads": 3}


def command(folder, out, *more):
    given = [word for k, v in arguments(folder).items() for word in (f"--{k.replace('_', '-')}", str(v))]
    return main(["convert", "annexe", *given, "--out", str(out), *more])


@pytest.fixture(scope="module")
def converted(files, tmp_path_factory):
    out = tmp_path_factory.mktemp("converted") / "m"
    convert(plan(**arguments(files[0])), out)
    return out


def test_every_tensor_arrives(files, tmp_path, capsys):
    folder, states = files
    assert command(folder, tmp_path / "m", "--shard-gb", "0.001") == 0
    printed = capsys.readouterr().out
    assert "LoRA rank 4" in printed and "Depth-Anything 4 blocks of width 12" in printed
    assert "not trained: mask tokens, pixel projections, depth scale, queries, decoder, target head" in printed
    assert len(list((tmp_path / "m").glob("model-*.safetensors"))) > 1
    state = load_module(tmp_path / "m", read_config(tmp_path / "m")[0]).state_dict()
    llama, depth, checkpoint = states["llama"], states["depth"], states["checkpoint"]
    assert torch.equal(state["language.llama_proj.weight"], checkpoint["llama_proj.weight"])
    lora = "model.layers.1.self_attn.v_proj.lora_B"
    assert torch.equal(state[f"language.llama_model.{lora}.default.weight"], checkpoint[f"llama_model.base_model.model.{lora}.weight"])
    assert torch.equal(state["language.llama_model.model.embed_tokens.base.weight"], llama["model.embed_tokens.weight"])
    assert torch.equal(state["language.llama_model.lm_head.base.weight"], llama["lm_head.weight"])
    assert torch.equal(state["language.vision.encoder.layers.0.mlp.fc2.weight"], states["eva"]["blocks.0.mlp.fc2.weight"])
    qkv = depth["pretrained.blocks.2.attn.qkv.weight"]
    layer = "pixels.net.backbone.encoder.layer.2."
    for k, kind in enumerate("qkv"):
        assert torch.equal(state[f"{layer}attention.{kind}_proj.weight"], qkv[k * WIDTH : (k + 1) * WIDTH])
    assert torch.equal(state[f"{layer}layer_scale2.lambda1"], depth["pretrained.blocks.2.ls2.gamma"])
    # refinenet4 is the coarsest, the first fusion layer; the checkpoint trained it, refinenet3 stays as published
    mine = checkpoint["depth_estimation_model.depth_head.scratch.refinenet4.resConfUnit2.conv1.weight"]
    fusion = "pixels.net.neck.fusion_stage.layers."
    assert torch.equal(state[f"{fusion}0.residual_layer2.convolution1.weight"], mine)
    assert torch.equal(state[f"{fusion}1.residual_layer2.convolution1.weight"], depth["depth_head.scratch.refinenet3.resConfUnit2.conv1.weight"])
    assert torch.equal(state["pixels.net.head.conv3.bias"], checkpoint["depth_estimation_model.depth_head.scratch.output_conv2.2.bias"])
    mean = llama["lm_head.weight"].mean(0)
    assert torch.allclose(state["language.llama_model.lm_head.extra"], mean.expand(5, -1), atol=1e-6)


def test_the_report_names_what_the_papers_model_does_not_have(files, converted):
    report = json.loads((converted / "conversion.json").read_text())
    assert report["missing"] == [] and report["unexpected"] == []
    dropped = {name: reason for source, name, reason in report["dropped"] if source == "checkpoint"}
    assert set(dropped) == set(MASK_SIDE)
    assert "random" in dropped["with_mask_classfier.fc1.weight"] and "never called" in dropped["depth_decoder.convA.weight"]
    assert "transposed" in dropped["linear_layer.weight"] and "1080x1920" in dropped["mask_decoder.deconv1.bias"]
    replaced = [name for source, name, reason in report["dropped"] if source == "depth"]
    assert set(replaced) == set(trained_depth(depth_shapes()))
    used = {name for _, name, _ in report["used"]} | set(dropped)
    assert {n for s in (files[1]["checkpoint"], files[1]["eva"]) for n in s} <= used
    assert read_config(converted)[1] == tuple(annexe_names.OWN)


def test_it_writes_words_and_refuses_masks(converted, tmp_path, capsys):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (30, 40, 3), dtype=np.uint8)).save(tmp_path / "x.png")
    model = f"annexe:{converted}"
    assert main(["ask", str(tmp_path / "x.png"), "the left hand", "--model", model, "--json", "--max-new-tokens", "4"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["entities"] == [] and answer["size"] == [40, 30]
    loaded = egohoi.load(model, device="cpu")
    with pytest.raises(egohoi.errors.BadQuery, match="mask side of .* is not trained .*decoder"):
        loaded.ask(str(tmp_path / "x.png"), "the left hand", mask=True)
    with pytest.raises(egohoi.errors.BadConfig, match="depth decoder of .* is not trained"):
        loaded.depth(egohoi.images.load(str(tmp_path / "x.png")))


#: Every fourteenth row and column of what the encoder and head of the released code compute in float64, before their last ReLU,
#: with the weights of `numbers` on the picture below. In float32 the values, up to 2,900, differ by 0.015 from one processor to another.
GOLDEN = [
    [33.798311, -1791.948803, -1726.272266, -1359.086576], [10.255951, -329.734275, -9.054162, -213.454280],
    [-31.097851, 0.023326, 0.023326, -64.063653], [-16.466323, 0.023326, -31.900297, 0.023326],
]


def test_depth_anything_computes_what_the_released_code_computes(files, tmp_path):
    shutil.copytree(files[0], tmp_path / "in")
    saved = torch.load(tmp_path / "in" / "checkpoint.pth", weights_only=True)
    saved["model"] = {n: t for n, t in saved["model"].items() if not n.startswith("depth_estimation_model.")}
    torch.save(saved, tmp_path / "in" / "checkpoint.pth")
    convert(plan(**arguments(tmp_path / "in")), tmp_path / "m")
    net = load_module(tmp_path / "m", read_config(tmp_path / "m")[0]).pixels.net.double()
    pixels = torch.from_numpy(np.sin(np.arange(3 * 56 * 56) * 0.013).reshape(1, 3, 56, 56).astype(np.float32)).double()
    with torch.no_grad():
        maps = net.backbone(pixels).feature_maps
        depth = net.head(net.neck(list(maps), GRID, GRID), GRID, GRID)[0]
    torch.testing.assert_close(depth[::14, ::14], torch.tensor(GOLDEN, dtype=torch.float64), rtol=1e-7, atol=1e-5)


def test_the_published_size_fits_name_by_name():
    """Depth-Anything-V2 ViT-B, 239 tensors, against the network of the paper's configuration; only shapes, no memory."""
    published = depth_shapes(768, 12, 37, (96, 192, 384, 768), 128, 32)
    config = AnnexeConfig()
    ours = {n: s for n, s in shapes_of(config).items() if n.startswith("pixels.net.")}
    found = {}
    for name, shape in published.items():
        for place in annexe_names.depth_place(name):
            found[place.target] = shape if place.part is None else (shape[0] // 3, *shape[1:])
    assert found == ours
    assert (len(published), sum(int(np.prod(s)) for s in published.values())) == (239, 97_470_785)
    trained = trained_depth(published)
    assert len(trained) == 17 and all(n.startswith("depth_head.scratch.") for n in trained)


def test_a_folder_of_transformers_gives_the_same_network(files, converted, tmp_path):
    """In both spellings of its attention."""
    from safetensors.torch import save_file

    config, _ = read_config(converted)
    state = {}
    for name, tensor in load_module(converted, config).state_dict().items():
        if name.startswith("pixels.net."):
            state[name.removeprefix("pixels.net.")] = tensor.clone()
    old = {}
    for name, tensor in state.items():
        for new, spelled in (("q_proj", "attention.query"), ("k_proj", "attention.key"), ("v_proj", "attention.value"), ("o_proj", "output.dense")):
            name = name.replace(f".attention.{new}.", f".attention.{spelled}.")
        old[name] = tensor
    assert set(old) != set(state)
    for k, spelling in enumerate((state, old)):
        home = tmp_path / f"hf{k}"
        home.mkdir()
        save_file(spelling, home / "model.safetensors")
        (home / "config.json").write_text(json.dumps({"model_type": "depth_anything", **config.depth_anything}))
        made = plan(**{**arguments(files[0]), "depth": home})
        assert made.report.clean, made.report.missing + made.report.unexpected
        convert(made, tmp_path / f"m{k}")
        again = load_module(tmp_path / f"m{k}", read_config(tmp_path / f"m{k}")[0]).state_dict()
        assert all(torch.equal(again[f"pixels.net.{n}"], t) for n, t in state.items())


def spoiled(folder, change):
    saved = torch.load(folder / "checkpoint.pth", weights_only=True)
    change(saved["model"])
    torch.save(saved, folder / "checkpoint.pth")


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.system, (f"touch {self.path}",))


@pytest.mark.parametrize(("spoil", "more", "message"), [
    (lambda f: spoiled(f, lambda s: s.pop("llama_proj.bias")), [], "1 tensors are missing (language.llama_proj.bias)"),
    (lambda f: spoiled(f, lambda s: s.update({"sam.mask_decoder.x": torch.ones(1)})), [], "1 tensors are unexpected (sam.mask_decoder.x of the checkpoint)"),
    (lambda f: spoiled(f, lambda s: s.pop("llama_proj.weight")), [], "lacks 'llama_proj.weight'"),
    (lambda f: spoiled(f, lambda s: s.update({"depth_estimation_model.depth_head.scratch.output_conv1.bias": torch.ones(9)})), [],
     "'depth_estimation_model.depth_head.scratch.output_conv1.bias' has shape [9], the model needs [4]"),
    (lambda f: torch.save({n: t for n, t in numbers(depth_shapes()).items() if "blocks.2.norm1" not in n}, f / "depth.pth"), [],
     "2 tensors are missing (pixels.net.backbone.encoder.layer.2.norm1.weight"),
    (lambda f: torch.save({**numbers(depth_shapes()), "metric.x": torch.ones(1)}, f / "depth.pth"), [], "metric.x of the depth"),
    (lambda f: shutil.copy(f / "eva.pth", f / "depth.pth"), [], "this is no Depth-Anything-V2"),
    (lambda f: (f / "depth.pth").unlink(), [], "depth.pth: no such file"),
    (lambda f: (f / "depth.pth").write_bytes((f / "depth.pth").read_bytes()[:900]), [], "depth.pth: is damaged"),
    (lambda f: None, ["--depth-heads", "5"], "--depth-heads says what the file cannot"),
    (lambda f: None, ["--image-size", "57"], "not a multiple"), (lambda f: None, ["--precision", "int8"], "float32, bfloat16 or float16"),
])
def test_what_cannot_be_converted_is_one_line(files, tmp_path, capsys, spoil, more, message):
    shutil.copytree(files[0], tmp_path / "in")
    spoil(tmp_path / "in")
    assert command(tmp_path / "in", tmp_path / "out", *more) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1, error
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.part").exists()


@pytest.mark.parametrize("name", ["checkpoint.pth", "depth.pth"])
def test_pickled_code_is_refused_and_not_run(files, tmp_path, capsys, name):
    shutil.copytree(files[0], tmp_path / "in")
    mark = tmp_path / "was-run"
    torch.save({"model": {"llama_proj.weight": Bomb(mark)}}, tmp_path / "in" / name)
    assert command(tmp_path / "in", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert "refused" in error and "system" in error and len(error.strip().splitlines()) == 1
    assert not mark.exists()


def test_the_checkpoint_that_the_release_starts_from(official, files, tmp_path):
    """Stock MiniGPT-v2: no part of ANNEXE in it; everything of Depth-Anything is as published."""
    shutil.copytree(files[0], tmp_path / "in")
    official(tmp_path / "stock")
    shutil.copy(tmp_path / "stock" / "checkpoint.pth", tmp_path / "in" / "checkpoint.pth")
    made = plan(**arguments(tmp_path / "in"))
    assert made.report.clean and not [d for d in made.report.dropped if d[0] in ("checkpoint", "depth")]


def test_a_folder_is_loaded_strictly_and_in_its_precision(files, tmp_path):
    made = plan(**arguments(files[0]))
    convert(made, tmp_path / "m", precision="bfloat16")
    with pytest.raises(BadWeights, match="exists already"):
        convert(made, tmp_path / "m")
    model = egohoi.load(f"annexe:{tmp_path / 'm'}", device="cpu", precision="bfloat16")
    kinds = {n: p.dtype for n, p in model.module.named_parameters()}
    assert {k for n, k in kinds.items() if n.startswith("language.")} == {torch.bfloat16}
    assert {k for n, k in kinds.items() if not n.startswith("language.")} == {torch.float32}
    assert model.describe(np.zeros((20, 30, 3), np.uint8)).size == (30, 20)
    same = plan(**arguments(files[0]))
    convert(same, tmp_path / "again", precision="bfloat16")
    assert (tmp_path / "m" / "model.safetensors").read_bytes() == (tmp_path / "again" / "model.safetensors").read_bytes()

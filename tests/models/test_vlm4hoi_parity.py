"""The converted model against a computation written from the description, in plain torch, on the official names.

Nothing of the package computes here: the reference below reads the official files' tensors and knows no class of ours.
"""

import codecs
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from egohoi.models.base import Generation
from egohoi.models.vlm4hoi import VLM4HOI
from egohoi.models.vlm4hoi_convert import convert, plan
from egohoi.models.vlm4hoi_folder import shapes_of
from egohoi.models.vlm4hoi_module import VLM4HOIConfig
from egohoi.models.vlm4hoi_names import official_shapes

torch.set_num_threads(1)
CLOSE = {"atol": 1e-4, "rtol": 0}
HEADS, LLAMA_HEADS, ALPHA = 3, 4, 16
QUESTION = "Where is the left hand?"
TURNS = (("<image>\nWhere is the left hand?", "{<10><20><30><40>}"), ("What does it hold?", "a cup"))


def image_array():
    return np.random.RandomState(3).randint(0, 255, (70, 130, 3), dtype=np.uint8)


def pixels(side=56):
    small = np.asarray(Image.fromarray(image_array()).resize((side, side), Image.BICUBIC)).astype(np.float64) / 255
    mean, std = np.array([0.48145466, 0.4578275, 0.40821073]), np.array([0.26862954, 0.26130258, 0.27577711])
    return torch.tensor(((small - mean) / std).transpose(2, 0, 1), dtype=torch.float32)[None]


def vision_tokens(eva, image):
    """Patches, class token first, position embedding stretched, pre-norm blocks with bias on q and v, then ln_vision."""
    x = F.conv2d(image, eva["patch_embed.proj.weight"], eva["patch_embed.proj.bias"], stride=14)
    side, width = x.shape[-1], x.shape[1]
    x = x.reshape(1, width, -1).permute(0, 2, 1)
    x = torch.cat([eva["cls_token"], x], 1)
    positions = eva["pos_embed"]
    old = math.isqrt(positions.shape[1] - 1)
    grid = positions[0, 1:].T.reshape(1, width, old, old)
    grid = F.interpolate(grid, (side, side), mode="bicubic", align_corners=False)
    x = x + torch.cat([positions[:, :1], grid.reshape(1, width, -1).permute(0, 2, 1)], 1)
    for k in range(sum(1 for n in eva if n.endswith("attn.q_bias"))):
        w = {n.removeprefix(f"blocks.{k}."): t for n, t in eva.items() if n.startswith(f"blocks.{k}.")}
        y = F.layer_norm(x, (width,), w["norm1.weight"], w["norm1.bias"], 1e-6)[0]
        wq, wk, wv = w["attn.qkv.weight"].split(width)
        q, k_, v = y @ wq.T + w["attn.q_bias"], y @ wk.T, y @ wv.T + w["attn.v_bias"]
        size = width // HEADS
        mixed = []
        for h in range(HEADS):
            part = slice(h * size, (h + 1) * size)
            mixed.append(((q[:, part] @ k_[:, part].T) / math.sqrt(size)).softmax(-1) @ v[:, part])
        x = x + torch.cat(mixed, -1) @ w["attn.proj.weight"].T + w["attn.proj.bias"]
        y = F.layer_norm(x, (width,), w["norm2.weight"], w["norm2.bias"], 1e-6)
        y = y @ w["mlp.fc1.weight"].T + w["mlp.fc1.bias"]
        y = 0.5 * y * (1 + torch.erf(y / math.sqrt(2)))
        x = x + y @ w["mlp.fc2.weight"].T + w["mlp.fc2.bias"]
    return F.layer_norm(x, (width,), torch.ones(width), torch.zeros(width), 1e-5)


def projected(checkpoint, tokens):
    patches = tokens[0, 1:]
    joined = torch.stack([patches[k : k + 4].reshape(-1) for k in range(0, len(patches), 4)])
    return joined @ checkpoint["llama_proj.weight"].T + checkpoint["llama_proj.bias"]


def rms(x, weight):
    return x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * weight


def rotate(x):
    """Rotary embedding, x: [L, d] of one head: pairs (i, i + d/2), base 10000."""
    half = x.shape[-1] // 2
    angle = torch.arange(len(x))[:, None] * 10000 ** (-torch.arange(half) / half)
    a, b = x[:, :half], x[:, half:]
    return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()], -1)


def language_logits(llama, checkpoint, x):
    """x: [L, D] embeddings -> [L, V]; LoRA adds alpha / r * B A x to q and v."""
    length, width = x.shape
    size = width // LLAMA_HEADS
    causal = torch.full((length, length), float("-inf")).triu(1)

    def linear(name, y):
        out = y @ llama[name + ".weight"].T
        lora = f"llama_model.base_model.model.{name}.lora_"
        if lora + "A.weight" in checkpoint:
            a, b = checkpoint[lora + "A.weight"], checkpoint[lora + "B.weight"]
            out = out + (y @ a.T @ b.T) * ALPHA / len(a)
        return out

    for k in range(2):
        p = f"model.layers.{k}."
        y = rms(x, llama[p + "input_layernorm.weight"])
        q, key, v = (linear(p + f"self_attn.{n}_proj", y) for n in "qkv")
        mixed = []
        for h in range(LLAMA_HEADS):
            s = slice(h * size, (h + 1) * size)
            mixed.append((rotate(q[:, s]) @ rotate(key[:, s]).T / math.sqrt(size) + causal).softmax(-1) @ v[:, s])
        x = x + linear(p + "self_attn.o_proj", torch.cat(mixed, -1))
        y = rms(x, llama[p + "post_attention_layernorm.weight"])
        x = x + linear(p + "mlp.down_proj", F.silu(linear(p + "mlp.gate_proj", y)) * linear(p + "mlp.up_proj", y))
    return rms(x, llama["model.norm.weight"]) @ llama["lm_head.weight"].T


def pieces(tokenizer, text):
    """Ids of one piece: a leading space, every space a token, single characters (the tiny tokenizer has nothing longer)."""
    vocabulary = tokenizer.get_vocab()
    return [vocabulary[c] for c in ("▁" + text.replace(" ", "▁"))]


@pytest.fixture(scope="module")
def made(official, tmp_path_factory):
    folder = tmp_path_factory.mktemp("parity")
    states = official(folder, seed=11)
    convert(plan(folder / "llama", folder / "eva.pth", folder / "checkpoint.pth", vit_heads=3, image_size=56), folder / "m")
    return VLM4HOI.from_pretrained(str(folder / "m"), device="cpu", precision="float32"), states


def test_pixels(made):
    assert torch.allclose(made[0].processor.pixels(image_array())[None], pixels(), atol=1e-6)


def test_vision_and_projected_tokens(made):
    model, states = made
    expected = vision_tokens(states["eva"], pixels())
    with torch.no_grad():
        assert torch.allclose(model.module.encode_vision(pixels()), expected, **CLOSE)
        assert torch.allclose(model.module.encode_image(pixels())[0], projected(states["checkpoint"], expected), **CLOSE)
    assert expected.abs().mean() > 0.1


def sequence(model, states, before, after):
    """Embeddings [L, D] of ids, image, ids."""
    table = states["llama"]["model.embed_tokens.weight"]
    image = projected(states["checkpoint"], vision_tokens(states["eva"], pixels()))
    return torch.cat([table[before], image, table[after]])


def test_logits_and_loss_of_a_conversation_of_two_turns(made):
    model, states = made
    t = model.processor.tokenizer
    before = [1] + pieces(t, "[INST] <Img>")
    asked = pieces(t, "</Img> Where is the left hand?  [/INST]")
    said = pieces(t, "{<10><20><30><40>}") + [2]
    then = [1] + pieces(t, "[INST] What does it hold?  [/INST]")
    last = pieces(t, "a cup") + [2]
    x = sequence(model, states, before, asked + said + then + last)
    expected = language_logits(states["llama"], states["checkpoint"], x)
    batch = model.processor.collate([(model.processor.pixels(image_array()), model.processor.conversation(TURNS))])
    with torch.no_grad():
        output = model.module(**batch)
    assert output.logits.shape[1] == len(expected)
    assert torch.allclose(output.logits[0], expected, **CLOSE)
    first = len(before) + 4 + len(asked)
    second = first + len(said) + len(then)
    losses = [-expected[first + k - 1].log_softmax(-1)[n] for k, n in enumerate(said)]
    losses += [-expected[second + k - 1].log_softmax(-1)[n] for k, n in enumerate(last)]
    assert abs(float(output.loss) - float(torch.stack(losses).mean())) < 1e-4


def test_greedy_text(made):
    model, states = made
    t = model.processor.tokenizer
    # Two <s>: one is written in the prompt, one is added by the tokenizer.
    x = sequence(model, states, [1, 1] + pieces(t, "[INST] <Img>"), pieces(t, f"</Img> {QUESTION} [/INST]"))
    written = []
    for _ in range(20):
        logits = language_logits(states["llama"], states["checkpoint"], x)[-1]
        if not written:
            logits[2] = float("-inf")  # an empty answer is not allowed
        written.append(int(logits.argmax()))
        if written[-1] == 2:
            break
        x = torch.cat([x, states["llama"]["model.embed_tokens.weight"][written[-1]][None]])
    assert model.ask(image_array(), QUESTION, settings=Generation(max_new_tokens=20)).text == text_of(t, written)


def text_of(tokenizer, ids):
    """Characters as they are, bytes as UTF-8; each byte that belongs to no character is a replacement character."""
    tokens = {number: token for token, number in tokenizer.get_vocab().items()}
    data = b""
    for number in ids:
        token = tokens.get(number, "")
        if token not in ("<unk>", "<s>", "</s>", "$$"):
            data += bytes([int(token[3:5], 16)]) if token.startswith("<0x") else token.replace("\u2581", " ").encode()
    codecs.register_error("each byte", lambda error: ("\ufffd" * (error.end - error.start), error.end))
    return data.decode("utf-8", errors="each byte").strip()


# ---------------------------------------------------------------------- the published size

#: Every tensor of the official files at full size; {} runs over the blocks. From the released code and configuration:
#: EVA-CLIP-g as BLIP-2 runs it (positions of 448 pixels: 32 * 32 + 1), Llama-2-7B, checkpoint_55.pth with LoRA of rank 64.
EVA = {
    "cls_token": (1, 1, 1408), "pos_embed": (1, 1025, 1408), "patch_embed.proj.weight": (1408, 3, 14, 14),
    "patch_embed.proj.bias": (1408,), "blocks.{}.norm1.weight": (1408,), "blocks.{}.norm1.bias": (1408,),
    "blocks.{}.attn.q_bias": (1408,), "blocks.{}.attn.v_bias": (1408,), "blocks.{}.attn.qkv.weight": (4224, 1408),
    "blocks.{}.attn.proj.weight": (1408, 1408), "blocks.{}.attn.proj.bias": (1408,), "blocks.{}.norm2.weight": (1408,),
    "blocks.{}.norm2.bias": (1408,), "blocks.{}.mlp.fc1.weight": (6144, 1408), "blocks.{}.mlp.fc1.bias": (6144,),
    "blocks.{}.mlp.fc2.weight": (1408, 6144), "blocks.{}.mlp.fc2.bias": (1408,),
}
LLAMA = {
    "model.embed_tokens.weight": (32000, 4096), "model.norm.weight": (4096,), "lm_head.weight": (32000, 4096),
    "model.layers.{}.self_attn.q_proj.weight": (4096, 4096), "model.layers.{}.self_attn.k_proj.weight": (4096, 4096),
    "model.layers.{}.self_attn.v_proj.weight": (4096, 4096), "model.layers.{}.self_attn.o_proj.weight": (4096, 4096),
    "model.layers.{}.mlp.gate_proj.weight": (11008, 4096), "model.layers.{}.mlp.up_proj.weight": (11008, 4096),
    "model.layers.{}.mlp.down_proj.weight": (4096, 11008), "model.layers.{}.input_layernorm.weight": (4096,),
    "model.layers.{}.post_attention_layernorm.weight": (4096,),
}
_LAYER = "llama_model.base_model.model.model.layers.{}.self_attn."
CHECKPOINT = {
    "llama_proj.weight": (4096, 5632), "llama_proj.bias": (4096,), "ln_vision.weight": (1408,), "ln_vision.bias": (1408,),
    _LAYER + "q_proj.lora_A.weight": (64, 4096), _LAYER + "q_proj.lora_B.weight": (4096, 64),
    _LAYER + "v_proj.lora_A.weight": (64, 4096), _LAYER + "v_proj.lora_B.weight": (4096, 64),
}


def test_the_7b_model_has_the_official_names_and_shapes():
    config = VLM4HOIConfig()
    shapes = shapes_of(config)  # on the meta device: no memory
    ours = {(source, name): shape for source, name, shape in official_shapes(config, shapes)}
    expected = {}
    for source, table, blocks in (("eva", EVA, 39), ("llama", LLAMA, 32), ("checkpoint", CHECKPOINT, 32)):
        for name, shape in table.items():
            for k in range(blocks if "{}" in name else 1):
                expected[source, name.format(k)] = shape
    assert ours == expected
    trained = {name: math.prod(shape) for name, shape in shapes.items() if ".lora_" in name}
    assert sum(trained.values()) == 33_554_432  # as peft prints for r=64 on q and v of Llama-2-7B
    assert config.image_tokens == 256

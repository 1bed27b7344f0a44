"""Run the released code of VLM4HOI, or of MiniGPT-v2, and this package on the same tiny weights, and print how far they are apart.

    git clone https://github.com/Sid2697/HOI-Ref ../HOI-Ref
    pip install --no-deps --target ../site transformers==4.30.0 peft==0.2.0 tokenizers==0.13.3 accelerate==0.20.3 huggingface_hub==0.19.4 \
        omegaconf einops iopath portalocker antlr4-python3-runtime==4.9.3
    python benchmarks/parity_vlm4hoi.py weights ../tiny
    PYTHONPATH=../site python benchmarks/parity_vlm4hoi.py reference ../tiny --code ../HOI-Ref
    python benchmarks/parity_vlm4hoi.py compare ../tiny

`weights` writes small random weights under the official names (and a SentencePiece tokenizer), converts them with `egohoi convert vlm4hoi`
and fine-tunes them for 20 steps with `egohoi train`. `reference` imports nothing of this package: it builds the released model, loads the
original and the exported checkpoint with the released code, and keeps what it computes. `compare` computes the same here.
The released code runs as it stands in its folder, with the versions of the libraries that it pins. Changed around it: imports of
libraries that take no part are empty (torchvision, timm's helpers written in three lines), the encoder is built in the tiny size,
the language model is loaded in float32, and the layer that peft puts around the head to cast its output is taken off.
"""

import argparse
import importlib
import importlib.machinery
import json
import math
import random
import sys
import types
from pathlib import Path

import numpy as np
import torch
from PIL import Image

#: Sizes of the tiny model: the encoder's two blocks of width 176, 8 x 8 patches; the language model's two blocks of width 64.
WIDTH, MLP, GRID, SIDE, HIDDEN, BLOCKS, HEADS, STEPS = 176, 768, 4, 112, 64, 2, 2, 20
CHECKPOINTS = {"original": "checkpoint.pth", "fine-tuned by egohoi": f"run/checkpoint_{STEPS}.pth"}
MODELS = {"original": "model", "fine-tuned by egohoi": "run/model"}
ASKED = ("Where is the left hand?", "What is the object in the right hand?", "Describe the ongoing action in this image.")
CONVERSATIONS = (
    (("Where is the left hand of the person?", "{<10><20><30><40>}"), ("What is the person holding?", "a cup")),
    (("Describe the ongoing action in this image.", "The person opens the cupboard"),),
)
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


# ---------------------------------------------------------------------- weights


def make(folder: Path) -> None:
    """Write the official files into `folder`, convert them into `model`, fine-tune into `run`."""
    from safetensors.torch import save_file

    from egohoi.apps.cli import main
    from egohoi.models.vlm4hoi_folder import shapes_of
    from egohoi.models.vlm4hoi_module import VLM4HOIConfig
    from egohoi.models.vlm4hoi_names import official_shapes

    home = folder / "llama"
    home.mkdir(parents=True)
    vocabulary = tokenizer(folder, home)
    llama = {
        "vocab_size": vocabulary, "hidden_size": HIDDEN, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 4, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
    }
    config = VLM4HOIConfig(
        image_size=SIDE, vision_width=WIDTH, vision_blocks=BLOCKS, vision_heads=HEADS, vision_mlp=MLP, lora_rank=4, llama=llama
    )
    generator = torch.Generator().manual_seed(3)
    states: dict = {"eva": {}, "llama": {}, "checkpoint": {}}
    for source, name, shape in official_shapes(config, shapes_of(config)):
        if name.startswith("ln_vision"):
            continue  # the released checkpoint has none
        if name == "pos_embed":
            shape = (1, 1 + GRID**2, WIDTH)
        scale = 0.5 if "embed_tokens" in name or "lm_head" in name else 0.08 if source == "eva" else 0.05 if "llama_proj" in name else 0.12
        tensor = torch.randn(*shape, generator=generator) * scale
        states[source][name] = 1 + tensor if "norm" in name and name.endswith("weight") else tensor
    torch.save(states["eva"], folder / "eva.pth")
    torch.save({"model": states["checkpoint"], "epoch": 55}, folder / "checkpoint.pth")
    facts = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    (home / "config.json").write_text(json.dumps({**facts, **llama, "torch_dtype": "float32"}))
    save_file(states["llama"], home / "model.safetensors", metadata={"format": "pt"})
    torch.save(states["llama"], home / "pytorch_model.bin")

    (folder / "frames").mkdir()
    numbers, words = np.random.default_rng(0), random.Random(0)
    for k in range(4):
        noise = Image.fromarray(numbers.integers(0, 255, (90, 160, 3), dtype=np.uint8))
        noise.resize((320, 180), Image.Resampling.BICUBIC).save(folder / "frames" / f"{k}.png")
    rows = []
    for k in range(12):
        box = "".join(f"<{words.randint(*span)}>" for span in ((0, 50), (0, 50), (51, 100), (51, 100)))
        said = [f"<image>\nWhere is the {words.choice(['left', 'right'])} hand of the person?", f"{{{box}}}"]
        said += ["What is the person holding?", "a cup"] * (k % 2)
        rows.append({"id": str(k), "image": f"{k % 4}.png", "conversations": [
            {"from": "gpt" if n % 2 else "human", "value": text} for n, text in enumerate(said)
        ]})
    (folder / "train.json").write_text(json.dumps(rows))
    files = ["--llama", home, "--eva", folder / "eva.pth", "--checkpoint", folder / "checkpoint.pth"]
    run("convert", "vlm4hoi", *files, "--out", folder / "model", "--vit-heads", HEADS, "--image-size", SIDE, main=main)
    run(
        "train", Path(__file__).parents[1] / "configs" / "vlm4hoi_finetune.yaml", f"model={folder / 'model'}", f"out={folder / 'run'}",
        f"data=[{{path: {folder / 'train.json'}, images: {folder / 'frames'}}}]", "frozen=float32", "loop.precision=float32", "loop.device=cpu",
        f"loop.steps={STEPS}", "loop.batch=4", "loop.micro_batch=2", "loop.lr=1e-3", "loop.warmup_steps=2", "loop.workers=0", "loop.trackers=[]",
        main=main,
    )


def run(*words, main) -> None:
    if main([str(word) for word in words]):
        sys.exit(2)


def tokenizer(folder: Path, home: Path) -> int:
    """A tokenizer of 384 pieces, trained on made-up questions; returns its size."""
    import sentencepiece

    r = random.Random(0)
    words = ("left", "right", "hand", "person", "the", "of", "object", "where", "is", "what", "holding", "a", "cup", "opens", "describe", "image")
    lines = [" ".join(r.choices(words, k=9)) + f" <{r.randint(0, 100)}><{r.randint(0, 100)}> [INST] [/INST] {{}}?." for _ in range(3000)]
    (folder / "text.txt").write_text("\n".join(lines))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text.txt"), model_prefix=str(home / "tokenizer"), vocab_size=384, model_type="bpe", byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, user_defined_symbols=["$$"], unk_id=0, bos_id=1, eos_id=2,
        pad_id=-1, hard_vocab_limit=False, split_digits=True, minloglevel=2,
    )
    (home / "tokenizer.vocab").unlink()
    tokens = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    settings = {"tokenizer_class": "LlamaTokenizer", "add_bos_token": True, "add_eos_token": False, "legacy": True}
    (home / "tokenizer_config.json").write_text(json.dumps({**settings, **tokens}))
    (home / "special_tokens_map.json").write_text(json.dumps(tokens))
    return sentencepiece.SentencePieceProcessor(model_file=str(home / "tokenizer.model")).get_piece_size()


# ---------------------------------------------------------------------- the released code


class Empty(types.ModuleType):
    """A module in which every name is a class that does nothing."""

    def __init__(self, name: str):
        super().__init__(name)
        self.__path__: list = []

    def __getattr__(self, key: str):
        if key.startswith("__"):
            raise AttributeError(key)
        return type(key, (), {"__init__": lambda self, *a, **k: None})


class Absent:
    """Finder of the libraries that the released code imports and that take no part in the model."""

    NAMES = ("torchvision", "timm", "webdataset", "decord", "cv2", "wandb", "pandas", "nltk", "visual_genome", "pkg_resources", "iopath")

    def find_spec(self, name, path=None, target=None):
        return importlib.machinery.ModuleSpec(name, self) if name.split(".")[0] in self.NAMES else None

    def create_module(self, spec):
        return Empty(spec.name)

    def exec_module(self, module):
        pass


def released(folder: Path, code: Path):
    """The class of the released model, its encoder built in the tiny size. Returns (class, name)."""
    from functools import partial

    sys.meta_path.insert(0, Absent())
    sys.path.insert(0, str(code))
    layers, registry = importlib.import_module("timm.models.layers"), importlib.import_module("timm.models.registry")
    layers.drop_path = lambda x, *_: x
    layers.to_2tuple = lambda x: (x, x)
    layers.trunc_normal_ = torch.nn.init.trunc_normal_
    registry.register_model = lambda function: function
    package, module, name = next(
        found for found in (("vlm4hoi", "vlm4hoi", "VLM4HOI"), ("minigpt4", "minigpt_v2", "MiniGPTv2")) if (code / found[0]).is_dir()
    )
    # the packages' own __init__ files import data sets and tasks, of which nothing is needed
    for inner in ("", ".common", ".models", ".conversation"):
        made = types.ModuleType(package + inner)
        made.__path__ = [str(code / (package + inner).replace(".", "/"))]
        sys.modules[made.__name__] = made
    base, vit = importlib.import_module(f"{package}.models.base_model"), importlib.import_module(f"{package}.models.eva_vit")
    sys.modules[f"{package}.models"].BaseModel = base.BaseModel

    def tiny(img_size, drop_path_rate, use_checkpoint, precision):
        encoder = vit.VisionTransformer(
            img_size=img_size, patch_size=14, use_mean_pooling=False, embed_dim=WIDTH, depth=BLOCKS, num_heads=HEADS, mlp_ratio=MLP / WIDTH,
            qkv_bias=True, norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        )
        state = torch.load(folder / "eva.pth", weights_only=True)
        vit.interpolate_pos_embed(encoder, state)
        print("encoder:", encoder.load_state_dict(state, strict=False))
        return encoder

    base.create_eva_vit_g = tiny
    load = base.LlamaForCausalLM.from_pretrained.__func__
    base.LlamaForCausalLM.from_pretrained = classmethod(lambda cls, *a, **k: load(cls, *a, **{**k, "torch_dtype": torch.float32}))
    return getattr(importlib.import_module(f"{package}.models.{module}"), name), name


def reference(folder: Path, code: Path) -> None:
    """Compute with the released code and keep the results in `reference.pt`."""
    from importlib.metadata import version

    cls, name = released(folder, code)
    print(f"{name} with transformers {version('transformers')}, peft {version('peft')}, torch {torch.__version__}")
    torch.save({"code": name, **{key: computed(folder, cls, folder / file) for key, file in CHECKPOINTS.items()}}, folder / "reference.pt")


def computed(folder: Path, cls, checkpoint: Path) -> dict:
    settings = {
        "image_size": SIDE, "llama_model": str(folder / "llama"), "max_txt_len": 1024, "end_sym": "</s>", "lora_r": 4, "lora_alpha": 16,
        "chat_template": True, "ckpt": str(checkpoint), "vit_precision": "fp32",
    }
    model = cls.from_config(settings).float().eval()
    state = torch.load(checkpoint, weights_only=True)["model"]
    trained = {n for n, p in model.named_parameters() if p.requires_grad}
    own = model.state_dict()
    result = {"loading": {
        "tensors in the file": len(state), "unknown to the released code": len(set(state) - set(own)),
        "trained parameters that the file lacks": len(trained - set(state)), "values equal": all(torch.equal(own[n], t) for n, t in state.items()),
    }}
    head = model.llama_model.base_model.model.lm_head
    if isinstance(head, torch.nn.Sequential):
        model.llama_model.base_model.model.lm_head = head[0]
    images = torch.stack([pixels(folder / "frames" / f"{k}.png") for k in (0, 1)])
    with torch.no_grad():
        vision, projected = model.ln_vision(model.visual_encoder(images)), model.encode_img(images)[0]
    samples = {
        "image": images, "connect_sym": ["!@#"] * 2,
        "conv_q": ["!@#".join([f"<Img><ImageHere></Img> {c[0][0]} ", *(f"{q} " for q, _ in c[1:])]) for c in CONVERSATIONS],
        "conv_a": ["!@#".join(a for _, a in c) for c in CONVERSATIONS],
    }
    kept: list = []
    hook = model.llama_model.base_model.model.lm_head.register_forward_hook(lambda module, given, output: kept.append(output))
    loss = model(samples)["loss"]
    hook.remove()
    loss.backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    new: list = []
    generate = model.llama_model.generate

    def keeping(*arguments, **options):
        new.append(generate(*arguments, **options))
        return new[-1]

    model.llama_model.generate = keeping
    prompts = [f"<s>[INST] <Img><ImageHere></Img> {q} [/INST]" for q in ASKED]
    answers = [model.generate(images[:1], [prompt], max_new_tokens=50)[0] for prompt in prompts]
    parts = [prompt.split("<ImageHere>") for prompt in prompts]
    cut = model.llama_tokenizer
    result |= {
        "pixels": images, "vision": vision, "projected": projected, "logits": kept[0].detach(), "loss": loss.detach(), "gradients": gradients,
        "prompts": [(cut(a).input_ids, cut(b, add_special_tokens=False).input_ids) for a, b in parts],
        "ids": [row[0].tolist() for row in new], "answers": answers,
    }
    if checkpoint.name == "checkpoint.pth":
        as_its_runner_saves(model, folder / "runner.pth")
    return result


def pixels(path: Path) -> torch.Tensor:
    """What its image processor makes: squeezed (bicubic), to [0, 1], normalized."""
    with Image.open(path) as file:
        small = file.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    tensor = torch.from_numpy(np.array(small)).permute(2, 0, 1).float().div(255)
    return (tensor - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]


def as_its_runner_saves(model, path: Path) -> None:
    """The layout of a checkpoint of the released runner: everything but frozen parameters, optimizer, configuration."""
    gradient = {n: p.requires_grad for n, p in model.named_parameters()}
    state = {n: t for n, t in model.state_dict().items() if gradient.get(n, True)}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.0)
    optimizer.step()
    torch.save({"model": state, "optimizer": optimizer.state_dict(), "config": {"run": {"init_lr": 1e-5}}, "scaler": None, "epoch": 3}, path)


# ---------------------------------------------------------------------- this package


def compare(folder: Path) -> int:
    """Print the differences; 1 if one is beyond 1e-4 or a text differs."""
    from egohoi.models.vlm4hoi import VLM4HOI
    from egohoi.models.vlm4hoi_convert import plan
    from egohoi.models.vlm4hoi_module import IMAGE_TOKEN
    from egohoi.models.vlm4hoi_names import official

    kept = torch.load(folder / "reference.pt", weights_only=True)
    print(f"{kept['code']} of the released code against egohoi, float32")
    worst, equal = 0.0, True

    def tell(name: str, ours: torch.Tensor, theirs: torch.Tensor) -> None:
        nonlocal worst
        apart = float((ours - theirs).abs().max())
        worst = max(worst, apart) if math.isfinite(apart) else math.inf
        print(f"  {name:<22} {apart:.1e}   (largest value {float(theirs.abs().max()):.3g})")

    for key, where in MODELS.items():
        model, expected = VLM4HOI.from_pretrained(str(folder / where), device="cpu", precision="float32"), kept[key]
        module, processor = model.module, model.processor
        print(f"{key}: {', '.join(f'{n}: {v}' for n, v in expected['loading'].items())}")
        equal &= expected["loading"]["values equal"]
        files = [folder / "frames" / f"{k}.png" for k in (0, 1)]
        images = torch.stack([processor.pixels(_picture(file)) for file in files])
        tell("pixels", images, expected["pixels"])
        with torch.no_grad():
            tell("vision tokens", module.encode_vision(images), expected["vision"])
            tell("projected tokens", module.encode_image(images), expected["projected"])
        conversations = [processor.conversation([(f"<image>\n{c[0][0]}", c[0][1]), *c[1:]]) for c in CONVERSATIONS]
        output = module(**processor.collate(list(zip(images, conversations))))
        lengths = [len(c.ids) for c in conversations]
        tell("logits", *(torch.cat([rows[k, :length] for k, length in enumerate(lengths)]).detach() for rows in (output.logits, expected["logits"])))
        tell("loss, two turns", output.loss.detach(), expected["loss"])
        output.loss.backward()
        ours = {official(n, module.config)[1][0]: p.grad for n, p in module.named_parameters() if p.requires_grad}
        equal &= ours.keys() == expected["gradients"].keys()
        tell("gradients", *(torch.cat([table[n].flatten() for n in sorted(ours)]) for table in (ours, expected["gradients"])))
        same = [0, 0, 0]
        for k, question in enumerate(ASKED):
            before, after = expected["prompts"][k]
            prompt = processor.prompt(question)
            same[0] += prompt == [*before, *[IMAGE_TOKEN] * processor.image_tokens, *after]
            ids, mask = processor.pad_batch([prompt], "left")
            new = module.generate(ids, mask, pixel_values=images[:1])[0].tolist()
            # transformers 4.30 puts one <s> in front of what it writes after embeddings
            same[1] += new == expected["ids"][k][1:]
            same[2] += model.ask(str(files[0]), question).text == expected["answers"][k]
        print(f"  equal of {len(ASKED)}: prompts {same[0]}, ids of greedy answers {same[1]} (of {len(new)} tokens), texts {same[2]}")
        equal &= same == [len(ASKED)] * 3
    report = plan(folder / "llama", folder / "eva.pth", folder / "runner.pth", vit_heads=HEADS, image_size=SIDE).report
    print(f"a file as its runner saves: used {len(report.used)}, missing {len(report.missing)}, unexpected {len(report.unexpected)}")
    ok = equal and report.clean and worst <= 1e-4
    print("all within 1e-4 and equal" if ok else "DIFFERENT")
    return 0 if ok else 1


def _picture(path: Path):
    from egohoi import images

    return images.load(str(path))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("weights", "reference", "compare"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--code", type=Path, help="folder of the released code: HOI-Ref, or MiniGPT-4 (its MiniGPT-v2)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    if given.what == "weights":
        make(given.folder)
    elif given.what == "reference":
        reference(given.folder, given.code.resolve())
    else:
        return compare(given.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())

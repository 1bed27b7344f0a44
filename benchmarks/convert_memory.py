"""Write random files in the official layout, convert them with `egohoi convert vlm4hoi`, and watch the memory of that process.

    python benchmarks/convert_memory.py ../big --size 7b          # 16 GB of files, as many again for the result
    python benchmarks/convert_memory.py ../medium --size medium   # 2.6 GB

7b: every tensor of Llama-2-7b-chat-hf (two files, the larger one of 10 GB), eva_vit_g.pth with its 40 blocks and checkpoint_55.pth, in
float16 (the checkpoint in float32). medium: the same with fewer and narrower blocks, in files of 500 MB. The files hold noise. Anonymous
memory is what the process asked for; pages of mapped files come on top and can be dropped by the system at any time. The
memory of the same command on a model of 50,000 weights is taken off: that is Python and its libraries.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

SIZES = {
    "tiny": ({"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}, (24, 3, 3, 104), 4, 10**9),
    "medium": ({"hidden_size": 2048, "intermediate_size": 5504, "num_hidden_layers": 16, "num_attention_heads": 16}, (1408, 16, 14, 6144), 64, 5 * 10**8),
    "7b": ({"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32}, (1408, 16, 40, 6144), 64, 10**10),
}
NOISE = np.random.default_rng(0).normal(0, 0.02, 2**24).astype(np.float16)


def noise(shape, k: int) -> np.ndarray:
    """float16 of that shape: a stretch of the noise, another one for each k."""
    count = int(np.prod(shape))
    return np.resize(np.roll(NOISE[:1_000_003], 7919 * k) if count < 1_000_003 else NOISE[k % 9973 :], count).reshape(shape)


def write_safetensors(path: Path, shapes: dict) -> None:
    """One file of float16 tensors, written tensor by tensor."""
    header, place = {}, 0
    for name, shape in shapes.items():
        size = 2 * int(np.prod(shape))
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [place, place + size]}
        place += size
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for k, shape in enumerate(shapes.values()):
            file.write(noise(shape, k).tobytes())


def make(folder: Path, size: str) -> dict:
    """Write the three sources. Returns their configuration's arguments."""
    from egohoi.models.vlm4hoi_folder import shapes_of
    from egohoi.models.vlm4hoi_module import VLM4HOIConfig
    from egohoi.models.vlm4hoi_names import official_shapes
    from egohoi.models.vlm4hoi_processor import tiny_tokenizer

    sizes, (width, heads, blocks, mlp), rank, limit = SIZES[size]
    llama = {"vocab_size": 32000, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "tie_word_embeddings": False, **sizes}
    config = VLM4HOIConfig(vision_width=width, vision_heads=heads, vision_blocks=blocks, vision_mlp=mlp, lora_rank=rank, llama=llama)
    shapes: dict = {"eva": {}, "llama": {}, "checkpoint": {}}
    for source, name, shape in official_shapes(config, shapes_of(config)):
        if not name.startswith("ln_vision"):
            shapes[source][name] = (1, 257, width) if name == "pos_embed" else shape
    home = folder / "llama"
    home.mkdir(parents=True)
    tiny_tokenizer().save_pretrained(str(home))
    (home / "config.json").write_text(json.dumps({"model_type": "llama", **llama}))
    parts: list[dict] = [{}]
    for name, shape in shapes["llama"].items():
        if sum(2 * int(np.prod(s)) for s in parts[-1].values()) + 2 * int(np.prod(shape)) > limit:
            parts.append({})
        parts[-1][name] = shape
    names = [f"model-{k + 1:05d}-of-{len(parts):05d}.safetensors" for k in range(len(parts))]
    for file, part in zip(names, parts):
        write_safetensors(home / file, part)
    table = {name: file for file, part in zip(names, parts) for name in part}
    (home / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": table}))
    torch.save({n: torch.from_numpy(noise(s, k)) for k, (n, s) in enumerate(shapes["eva"].items())}, folder / "eva_vit_g.pth")
    trained = {n: torch.from_numpy(noise(s, k)).float() for k, (n, s) in enumerate(shapes["checkpoint"].items())}
    torch.save({"model": trained}, folder / "checkpoint_55.pth")
    return {"vit-heads": heads}


def watched(arguments: list[str]) -> dict[str, int]:
    """Run `egohoi` and return the largest of its memory in bytes: anonymous, of mapped files, both at once."""
    process = subprocess.Popen([sys.executable, "-m", "egohoi", *arguments], env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    most = {"anonymous": 0, "files": 0, "resident": 0}
    began = time.perf_counter()
    while process.poll() is None:
        try:
            with open(f"/proc/{process.pid}/status", encoding="ascii") as file:
                table = {line.split(":")[0]: line.split()[1] for line in file if line.startswith(("RssAnon", "RssFile", "VmHWM"))}
        except (OSError, ValueError):
            break
        for name, key in (("anonymous", "RssAnon"), ("files", "RssFile"), ("resident", "VmHWM")):
            most[name] = max(most[name], int(table.get(key, 0)) * 1024)
        time.sleep(0.02)
    if process.wait():
        sys.exit(f"egohoi {' '.join(arguments)}: exit status {process.returncode}")
    return {**most, "seconds": round(time.perf_counter() - began)}


def convert(folder: Path, out: Path, heads: int, *more: str) -> dict[str, int]:
    files = ["--llama", folder / "llama", "--eva", folder / "eva_vit_g.pth", "--checkpoint", folder / "checkpoint_55.pth"]
    return watched(["convert", "vlm4hoi", *map(str, files), "--out", str(out), "--vit-heads", str(heads), *more])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", choices=tuple(SIZES), default="medium")
    parser.add_argument("--shard-gb", help="handed to egohoi convert")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        heads = make(Path(place) / "in", "tiny")["vit-heads"]
        base = convert(Path(place) / "in", Path(place) / "out", heads)
    if not given.folder.exists():
        make(given.folder, given.size)
    files = {file.name: file.stat().st_size for file in given.folder.rglob("*") if file.suffix in (".safetensors", ".pth")}
    largest = max(files.values())
    most = convert(given.folder, given.folder / "out", SIZES[given.size][1][1], *(["--shard-gb", given.shard_gb] if given.shard_gb else []))
    written = {file.name: file.stat().st_size for file in (given.folder / "out").glob("*.safetensors")}
    print(f"read    {sum(files.values()) / 1e9:.2f} GB in {len(files)} files, the largest {largest / 1e9:.2f} GB")
    print(f"written {sum(written.values()) / 1e9:.2f} GB in {len(written)} files, the largest {max(written.values()) / 1e9:.2f} GB, in {most['seconds']} s")
    for name in ("anonymous", "resident"):
        more = most[name] - base[name]
        print(f"{name:<10} at most {most[name] / 1e9:.2f} GB, {base[name] / 1e9:.2f} GB without a model: {more / 1e9:.2f} GB more, {more / largest:.2f} x the largest file")
    return 0 if most["anonymous"] - base["anonymous"] <= 1.2 * largest else 1


if __name__ == "__main__":
    sys.exit(main())

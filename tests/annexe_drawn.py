"""Drawn first-person scenes with exact masks and depth, small enough for tests: two hands, three kinds of objects."""

import numpy as np
from PIL import Image

from egohoi import masks
from egohoi.questions import irg
from egohoi.records import Hand, Object, Scene
from egohoi.scenes import irgbench, jsonl

NAMES = {"mug": (200, 40, 40), "plate": (60, 170, 70), "jar": (50, 70, 200)}
FAR, NEAR = 1400, 500


def scene(folder, number: int, side: int = 64, rng=None) -> Scene:
    """Draw scene `number` into `folder` and return its labels."""
    rng = rng or np.random.default_rng(number)
    rows, columns = np.mgrid[0:side, 0:side] / side
    picture = np.stack([120 + 40 * rng.random() + 30 * rows, 130 + 30 * columns, 140 + 20 * rng.random() - 30 * rows], -1)
    picture += rng.normal(0, 4, picture.shape)
    depth = FAR - 400 * rows

    def blob(x, y, wide, high, round_=True):
        if round_:
            return ((columns - x) / wide) ** 2 + ((rows - y) / high) ** 2 < 1
        return (abs(columns - x) < wide) & (abs(rows - y) < high)

    hands, objects, taken = [], [], list(rng.permutation(list(NAMES)))
    for name, x in (("left", 0.25), ("right", 0.75)):
        if rng.random() < 0.15:
            continue
        x, y = x + rng.uniform(-0.06, 0.06), rng.uniform(0.62, 0.75)
        shape = blob(x, y, 0.13, 0.16) | blob(x + (0.12 if name == "left" else -0.12), y, 0.05, 0.04)
        held = None
        if rng.random() < 0.6 and taken:
            noun = taken.pop()
            item = blob(x, y - 0.24, 0.11, 0.1, noun != "jar")
            picture[item] = np.asarray(NAMES[noun]) + rng.normal(0, 4, (item.sum(), 3))
            depth[item] = NEAR + 60
            held = len(objects)
            objects.append((noun, item, (name,)))
        picture[shape] = np.asarray((215, 165, 135)) + rng.normal(0, 4, (shape.sum(), 3))
        depth[shape] = NEAR
        hands.append((name, shape, held))
    if taken and rng.random() < 0.7:
        noun = taken.pop()
        item = blob(rng.uniform(0.25, 0.75), 0.15, 0.11, 0.1, noun != "jar")
        picture[item] = np.asarray(NAMES[noun]) + rng.normal(0, 4, (item.sum(), 3))
        depth[item] = NEAR + 400
        objects.append((noun, item, ()))
    for part in ("images", "depth"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    name = f"d{number:03d}"
    Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8)).save(folder / "images" / f"{name}.jpg", quality=95)
    Image.fromarray(depth.astype(np.uint16)).save(folder / "depth" / f"{name}.png")

    def coded(shape):
        rle = masks.encode(shape)
        return {"mask": rle, "box": masks.box(rle)}

    visible = {k: m & ~np.any([h for _, h, _ in hands], axis=0) if hands else m for k, (_, m, _) in enumerate(objects)}
    return Scene(
        id=name, image=str(folder / "images" / f"{name}.jpg"), size=(side, side), depth=str(folder / "depth" / f"{name}.png"),
        hands=[Hand(side=s, contact=o is not None, object=o, **coded(m)) for s, m, o in hands],
        objects=[Object(name=n, hands=h, **coded(visible[k])) for k, (n, _, h) in enumerate(objects)], exhaustive=True, source="drawn",
    )


def data_set(folder, count: int, side: int = 64, one_each: bool = True, split: str = "train"):
    """Write `count` drawn scenes as Ego-IRG data into `folder`; one_each: one entry with one query a frame, kinds in turn."""
    scenes = [scene(folder / "scenes", k, side) for k in range(count)]
    jsonl.write(folder / "scenes", scenes)
    for k, one in enumerate(scenes):
        built = irg.build(one, seed=0, nouns=(*NAMES, "knife", "phone"), per_kind=2, wordings=1 if one_each else 3)
        entries = list(built.entries)
        if one_each:
            wanted = irgbench.KINDS[k % 3]
            kinds = [irgbench.kind_of(sum(v > 0 for v in e["masks_idx"])) for e in entries]
            entries = [entries[kinds.index(wanted) if wanted in kinds else 0]]
        irgbench.write_frame(folder, split, one.id, one.image, built.index, entries, one.depth)
    return folder


def sam2(folder, channels: int):
    """Save a tiny Sam2Model with random weights into `folder` and return it."""
    import torch
    from transformers import Sam2Config, Sam2Model

    sizes = {
        "mask_decoder_config": {
            "hidden_size": channels, "mlp_dim": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "iou_head_hidden_dim": channels},
        "prompt_encoder_config": {"hidden_size": channels},
        "vision_config": {
            "fpn_hidden_size": channels, "backbone_channel_list": [64, 32, 16, 8], "backbone_config": {
                "model_type": "sam2_hiera_det_model", "hidden_size": 8, "blocks_per_stage": [1, 1, 1, 1], "embed_dim_per_stage": [8, 16, 32, 64],
                "num_attention_heads_per_stage": [1, 1, 1, 1], "global_attention_blocks": [3]}},
    }
    torch.manual_seed(0)
    model = Sam2Model(Sam2Config(**sizes))
    model.save_pretrained(folder)
    return model

"""Small random weights under the official names, written by hand so that no table of the package is used to test itself."""

import json

import pytest
import torch

SIZES = {
    "width": 24, "heads": 3, "blocks": 2, "mlp": 104, "patch": 14, "grid": 3, "hidden": 32, "vocab": 384, "llama_mlp": 48,
    "llama_blocks": 2, "llama_heads": 4, "rank": 4, "join": 4,
}


def eva_tensors(s, normal):
    w = s["width"]
    state = {
        "cls_token": normal(1, 1, w), "pos_embed": normal(1, 1 + s["grid"] ** 2, w),
        "patch_embed.proj.weight": normal(w, 3, s["patch"], s["patch"], scale=0.05), "patch_embed.proj.bias": normal(w),
    }
    for k in range(s["blocks"]):
        b = f"blocks.{k}."
        state |= {
            b + "norm1.weight": 1 + normal(w, scale=0.1), b + "norm1.bias": normal(w), b + "attn.q_bias": normal(w),
            b + "attn.v_bias": normal(w), b + "attn.qkv.weight": normal(3 * w, w), b + "attn.proj.weight": normal(w, w),
            b + "attn.proj.bias": normal(w), b + "norm2.weight": 1 + normal(w, scale=0.1), b + "norm2.bias": normal(w),
            b + "mlp.fc1.weight": normal(s["mlp"], w), b + "mlp.fc1.bias": normal(s["mlp"]),
            b + "mlp.fc2.weight": normal(w, s["mlp"]), b + "mlp.fc2.bias": normal(w),
        }
    return state


def llama_tensors(s, normal):
    h, m = s["hidden"], s["llama_mlp"]
    state = {"model.embed_tokens.weight": normal(s["vocab"], h, scale=0.5)}
    for k in range(s["llama_blocks"]):
        b = f"model.layers.{k}."
        state |= {b + f"self_attn.{n}_proj.weight": normal(h, h) for n in "qkvo"}
        state |= {
            b + "mlp.gate_proj.weight": normal(m, h), b + "mlp.up_proj.weight": normal(m, h),
            b + "mlp.down_proj.weight": normal(h, m), b + "input_layernorm.weight": 1 + normal(h, scale=0.1),
            b + "post_attention_layernorm.weight": 1 + normal(h, scale=0.1),
            b + "self_attn.rotary_emb.inv_freq": torch.ones(4),
        }
    return state | {"model.norm.weight": 1 + normal(h, scale=0.1), "lm_head.weight": normal(s["vocab"], h, scale=0.5)}


def checkpoint_tensors(s, normal, suffix):
    h, r = s["hidden"], s["rank"]
    state = {"llama_proj.weight": normal(h, s["width"] * s["join"]), "llama_proj.bias": normal(h)}
    for k in range(s["llama_blocks"]):
        for n in ("q_proj", "v_proj"):
            b = f"llama_model.base_model.model.model.layers.{k}.self_attn.{n}."
            state |= {b + f"lora_A{suffix}.weight": normal(r, h), b + f"lora_B{suffix}.weight": normal(h, r)}
    return state


@pytest.fixture(scope="session")
def official():
    """official(folder, suffix="", shards=1, **sizes) -> the three states; writes llama/, eva.pth and checkpoint.pth there."""
    from egohoi.models.vlm4hoi_processor import tiny_tokenizer

    tokenizer = tiny_tokenizer()

    def write(folder, suffix="", shards=1, seed=0, checkpoint_extra=None, **sizes):
        from safetensors.torch import save_file

        s = {**SIZES, **sizes}
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape, scale=0.2):
            return torch.randn(*shape, generator=generator) * scale

        eva, llama, checkpoint = eva_tensors(s, normal), llama_tensors(s, normal), checkpoint_tensors(s, normal, suffix)
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(eva, folder / "eva.pth")
        torch.save({"model": {**checkpoint, **(checkpoint_extra or {})}, "epoch": 55}, folder / "checkpoint.pth")
        home = folder / "llama"
        home.mkdir()
        (home / "config.json").write_text(json.dumps({
            "model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": s["vocab"], "hidden_size": s["hidden"],
            "intermediate_size": s["llama_mlp"], "num_hidden_layers": s["llama_blocks"], "num_attention_heads": s["llama_heads"],
            "num_key_value_heads": s["llama_heads"], "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "hidden_act": "silu",
            "bos_token_id": 1, "eos_token_id": 2, "pretraining_tp": 1, "rope_scaling": None, "torch_dtype": "float16",
            "tie_word_embeddings": False,
        }))
        tokenizer.save_pretrained(str(home))
        names = list(llama)
        if shards == 1:
            save_file(llama, home / "model.safetensors")
        else:
            step = -(-len(names) // shards)
            table = {}
            for k in range(shards):
                part = names[k * step : (k + 1) * step]
                file = f"model-{k + 1:05d}-of-{shards:05d}.safetensors"
                save_file({n: llama[n] for n in part}, home / file)
                table |= {n: file for n in part}
            (home / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": table}))
        return {"eva": eva, "llama": llama, "checkpoint": checkpoint, "sizes": s}

    return write

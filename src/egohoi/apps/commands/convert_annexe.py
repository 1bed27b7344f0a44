"""`egohoi convert annexe`: the files of the released ANNEXE code to one folder, with a report of every key."""

from pathlib import Path
from typing import Annotated

import typer


def annexe(
    llama: Annotated[Path, typer.Option(help="Hugging Face folder of Llama-2-7b-chat.")],
    eva: Annotated[Path, typer.Option(help="eva_vit_g.pth, the image encoder.")],
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint that the released code saved (or the MiniGPT-v2 one that it starts from).")],
    depth: Annotated[Path, typer.Option(help="depth_anything_v2_vitb.pth, or a folder such as Depth-Anything-V2-Base-hf.")],
    out: Annotated[Path, typer.Option(help="New folder to write.")],
    vit_heads: Annotated[int, typer.Option(help="Attention heads of the image encoder.")] = 16,
    vit_blocks: Annotated[int | None, typer.Option(help="Blocks of it to run; default: 39, or all of a smaller file.")] = None,
    image_size: Annotated[int, typer.Option(help="Pixels of a side of the image that the model reads.")] = 448,
    lora_alpha: Annotated[float, typer.Option(help="LoRA's alpha; its rank is in the file.")] = 16,
    depth_heads: Annotated[int | None, typer.Option(help="Attention heads of Depth-Anything's encoder; default: one for 64 channels.")] = None,
    precision: Annotated[str | None, typer.Option(help="Of the language side: float32, bfloat16 or float16; default: as stored.")] = None,
    shard_gb: Annotated[float, typer.Option(help="Largest file to write, in GB (10^9 bytes).", min=0.000001)] = 2,
    seed: Annotated[int, typer.Option(help="Of the parts that nothing released belongs to.")] = 0,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Print every key, not only the counts.")] = False,
) -> None:
    """ANNEXE: image encoder, Llama, Depth-Anything-V2 and checkpoint -> one folder for `--model annexe:FOLDER`."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from egohoi.apps.commands.convert import _print_report
    from egohoi.models import annexe_convert as conversion

    made = conversion.plan(
        llama, eva, checkpoint, depth, vit_heads=vit_heads, vit_blocks=vit_blocks, image_size=image_size, lora_alpha=lora_alpha,
        depth_heads=depth_heads,
    )
    _print_report(made.report, full=report)
    columns = (TextColumn("writing"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("writing", total=len(made.targets))
        conversion.convert(
            made, out, precision=precision, shard_bytes=int(shard_gb * 1e9), seed=seed, progress=lambda *_: bar.advance(task)
        )
    language, depth_anything = made.config.language, made.config.depth_anything["backbone_config"]
    typer.echo(
        f"wrote {out}: encoder {language.vision_blocks} blocks of width {language.vision_width}, language model "
        f"{language.llama['num_hidden_layers']} blocks of width {language.hidden_size}, LoRA rank {language.lora_rank}, "
        f"Depth-Anything {depth_anything['num_hidden_layers']} blocks of width {depth_anything['hidden_size']}"
    )
    typer.echo(f"not trained: {', '.join(made.untrained)}: words at once (mask off), masks after training from here")
    typer.echo(f"try: egohoi describe IMAGE --model annexe:{out}")

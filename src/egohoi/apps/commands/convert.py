"""`egohoi convert`: official checkpoints to one folder, with a report of every key."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True,
    help="Official checkpoints to one folder, with a report of every key.",
)


@app.callback()
def _several() -> None:
    """Official checkpoints to one folder, with a report of every key."""


@app.command()
def vlm4hoi(
    llama: Annotated[Path, typer.Option(help="Hugging Face folder of Llama-2-7b-chat.")],
    eva: Annotated[Path, typer.Option(help="eva_vit_g.pth, the image encoder.")],
    checkpoint: Annotated[Path, typer.Option(help="checkpoint_55.pth of VLM4HOI, or a stock MiniGPT-v2 checkpoint.")],
    out: Annotated[Path, typer.Option(help="New folder to write.")],
    vit_heads: Annotated[int, typer.Option(help="Attention heads of the image encoder.")] = 16,
    vit_blocks: Annotated[int | None, typer.Option(help="Blocks of it to run; default: 39, or all of a smaller file.")] = None,
    image_size: Annotated[int, typer.Option(help="Pixels of a side of the image that the model reads.")] = 448,
    lora_alpha: Annotated[float, typer.Option(help="LoRA's alpha; its rank is in the file.")] = 16,
    precision: Annotated[str | None, typer.Option(help="float32, bfloat16 or float16; default: as stored.")] = None,
    shard_gb: Annotated[
        float | None, typer.Option(help="Largest file to write, in GB (10^9 bytes); default: half of the largest that is read, at most 2.", min=0.000001)
    ] = None,
    report: Annotated[bool, typer.Option("--report/--no-report", help="Print every key, not only the counts.")] = False,
) -> None:
    """VLM4HOI or MiniGPT-v2: image encoder, Llama and checkpoint -> one folder for `--model vlm4hoi:FOLDER`."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    from egohoi.models import vlm4hoi_convert as conversion

    console = Console(stderr=True)
    made = conversion.plan(
        llama, eva, checkpoint, vit_heads=vit_heads, vit_blocks=vit_blocks, image_size=image_size, lora_alpha=lora_alpha
    )
    _print_report(made.report, full=report)
    columns = (TextColumn("writing"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("writing", total=sum(_bytes(made, name) for name in made.steps))
        conversion.convert(
            made, out, precision=precision, shard_bytes=int(shard_gb * 1e9) if shard_gb else None, progress=lambda _, n: bar.advance(task, n)
        )
    config = made.config
    typer.echo(
        f"wrote {out}: encoder {config.vision_blocks} blocks of width {config.vision_width}, language model "
        f"{config.llama['num_hidden_layers']} blocks of width {config.hidden_size}, LoRA rank {config.lora_rank}"
    )
    typer.echo(f"try: egohoi ask IMAGE \"Where is the left hand?\" --model vlm4hoi:{out}")


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []})
def annexe(context: typer.Context) -> None:
    """ANNEXE: the released checkpoint and its parts -> one folder for `--model annexe:FOLDER`."""
    from egohoi.errors import EgohoiError

    try:
        from egohoi.apps.commands.convert_annexe import annexe as command
    except ImportError as error:
        raise EgohoiError("this version of egohoi cannot convert ANNEXE checkpoints") from error
    inner = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    inner.command(name="annexe")(command)
    typer.main.get_command(inner)(args=list(context.args), prog_name="egohoi convert annexe", standalone_mode=False)


def _bytes(made, target: str) -> int:
    source, names = made.steps[target]
    if not source:
        return 0
    count = 1
    for side in made.shapes[target]:
        count *= side
    return count * made.sources[source].dtypes[names[0]].itemsize


def _print_report(report, full: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", "tensors", "what", box=None, pad_edge=False)
    sources = sorted({source for source, _, _ in report.used})
    counts = {s: sum(1 for source, _, _ in report.used if source == s) for s in sources}
    table.add_row("used", str(len(report.used)), ", ".join(f"{n} of {s}" for s, n in counts.items()))
    reasons: dict[str, int] = {}
    for _, _, reason in report.dropped:
        reasons[reason] = reasons.get(reason, 0) + 1
    table.add_row("dropped", str(len(report.dropped)), "; ".join(f"{n}: {reason}" for reason, n in reasons.items()) or "-")
    table.add_row("filled", str(len(report.filled)), "; ".join(f"{n}: {what}" for n, what in report.filled) or "-")
    table.add_row("missing", str(len(report.missing)), ", ".join(report.missing[:5]) or "-")
    table.add_row("unexpected", str(len(report.unexpected)), ", ".join(f"{n} ({s})" for s, n in report.unexpected[:5]) or "-")
    console = Console(width=200) if full else Console()
    console.print(table)
    if full:
        for source, name, target in report.used:
            typer.echo(f"used        {source:<10} {name} -> {target}")
        for source, name, reason in report.dropped:
            typer.echo(f"dropped     {source:<10} {name}: {reason}")
        for name in report.missing:
            typer.echo(f"missing     {name}")
        for source, name in report.unexpected:
            typer.echo(f"unexpected  {source:<10} {name}")

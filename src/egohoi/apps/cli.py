"""The command line: one table of commands, each imported only when it runs, and one place that turns errors into exits."""

import importlib
import os
import sys

import click
import typer
from typer.core import TyperGroup

from egohoi.errors import EgohoiError

#: command -> (module under apps/commands, attribute, one line of help). The attribute is a function for typer, or a Typer
#: app for commands with sub-commands. Modules are imported only when their command runs, so that `--help` is quick.
COMMANDS = {
    "ask": ("ask", "ask", "Answer a question about a picture: boxes, names, who holds what, masks."),
    "describe": ("ask", "describe", "Every hand, active object and contact of a picture, and what is happening."),
    "predict": ("predict", "predict", "Answer the questions of a data set: batches, resumable, JSON lines out."),
    "build": ("build", "app", "Raw annotations to questions and answers (hoiqa, irg), frames out of videos."),
    "train": ("train", "train", "Train a model by a configuration: one process, torchrun or accelerate."),
    "eval": ("eval", "app", "Measure predictions or a model (hoiqa, irg, scenes)."),
    "convert": ("convert", "app", "Official checkpoints to one folder (vlm4hoi, annexe), with a report of every key."),
    "serve": ("serve", "serve", "Web page and HTTP API."),
    "video": ("video", "video", "Annotated video and JSON lines, in bounded memory."),
    "synth": ("synth", "synth", "Render first-person scenes with exact labels."),
    "bench": ("bench", "bench", "Time a model on this machine."),
    "models": ("models", "models", "Models, and what fits this machine."),
    "assets": ("assets", "assets", "Fetch what the project does not carry itself (hand networks), by pinned hash."),
}


class LazyGroup(TyperGroup):
    """A click group that imports a command's module when the command is looked up, and lists names without importing."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, attribute, summary = COMMANDS[name]
        target = getattr(importlib.import_module(f"egohoi.apps.commands.{module}"), attribute)
        if not isinstance(target, typer.Typer):
            function, target = target, typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            target.command(name=name, help=function.__doc__)(function)
        command = typer.main.get_command(target)
        command.name = name
        command.short_help = summary
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry[2]) for name, entry in COMMANDS.items()])

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        # Typer's rich help would import every command to read its help; click's own needs only the table above.
        click.Group.format_help(self, ctx, formatter)


app = typer.Typer(cls=LazyGroup, add_completion=False, pretty_exceptions_enable=False, no_args_is_help=True)


@app.callback(invoke_without_command=True)
def main_options(
    ctx: typer.Context,
    version: bool = typer.Option(False, "--version", help="Print the version and exit."),
) -> None:
    """Hands and objects in first-person images: refer, analyse, answer, ground."""
    if version:
        from egohoi import __version__

        typer.echo(f"egohoi {__version__}")
        raise typer.Exit()


def main(argv: list[str] | None = None) -> int:
    """Run the command line. Returns the exit status: 0 done, 2 the user's mistake (one line on stderr), 1 our fault."""
    try:
        result = app(args=argv, prog_name="egohoi", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except EgohoiError as error:
        _say(error)
        return 2
    except click.ClickException as error:
        _say(error.format_message())
        return 2
    except (click.exceptions.Abort, KeyboardInterrupt):
        _say("stopped")
        return 130
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _say(problem) -> None:
    print("egohoi: " + " ".join(str(problem).split()), file=sys.stderr)


def run() -> None:
    """Entry point of the console script."""
    sys.exit(main())


if __name__ == "__main__":
    run()

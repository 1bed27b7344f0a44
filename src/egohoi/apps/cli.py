"""The command line: one table of commands, each imported only when it runs, and one place that turns errors into exits."""

import difflib
import importlib
import os
import sys

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


def command(name: str):
    """The click command of `name`, built by typer from its function. Imports that command's module only."""
    import typer

    module, attribute, _ = COMMANDS[name]
    target = getattr(importlib.import_module(f"egohoi.apps.commands.{module}"), attribute)
    if not isinstance(target, typer.Typer):
        function, target = target, typer.Typer(add_completion=False, pretty_exceptions_enable=False)
        target.command(name=name, help=function.__doc__)(function)
    return typer.main.get_command(target)


def overview() -> str:
    """What `egohoi --help` prints."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {summary}" for name, (_, _, summary) in COMMANDS.items()]
    return "\n".join(
        ["Hands and objects in first-person images: refer, analyse, answer, ground.", "",
         "usage: egohoi COMMAND ...    (egohoi COMMAND --help says more; --version prints the version)", "", *lines]
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command line. Returns the exit status: 0 done, 2 the user's mistake (one line on stderr), 1 our fault."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(overview())
        return 0
    name = arguments[0]
    if name in ("--version", "-V"):
        from egohoi import __version__

        print(f"egohoi {__version__}")
        return 0
    try:
        if name not in COMMANDS:
            near = difflib.get_close_matches(name, COMMANDS, 1)
            raise EgohoiError(f"no command '{name}'" + (f": did you mean '{near[0]}'?" if near else ": see egohoi --help"))
        result = command(name)(args=arguments[1:], prog_name=f"egohoi {name}", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except EgohoiError as error:
        _say(error)
        return 2
    except KeyboardInterrupt:
        _say("stopped")
        return 130
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        # click's own exceptions, told apart by what they offer: typer carries a copy of click in some versions.
        if hasattr(error, "format_message"):
            if message := error.format_message():  # empty where the help has been printed instead
                _say(message)
            return 2
        if type(error).__name__ == "Abort":
            _say("stopped")
            return 130
        if hasattr(error, "exit_code"):
            return int(error.exit_code)
        raise


def _say(problem) -> None:
    print("egohoi: " + " ".join(str(problem).split()), file=sys.stderr)


def run() -> None:
    """Entry point of the console script."""
    sys.exit(main())


if __name__ == "__main__":
    run()

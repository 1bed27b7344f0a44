"""What README and documents promise: their links lead somewhere, and README's commands and Python run as they stand there."""

import re
import shlex
import shutil
from pathlib import Path

import pytest
from PIL import Image

from egohoi.apps.cli import main

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"(?:^    .*\n|^\n(?=    ))+", README, re.MULTILINE)


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with what README's commands name."""
    from egohoi.records import Scene
    from egohoi.scenes import jsonl

    shutil.copy(ROOT / "examples" / "kitchen.jpg", tmp_path / "photo.jpg")
    # README's point lies in a photo of an ordinary size.
    Image.open(tmp_path / "photo.jpg").resize((640, 480)).save(tmp_path / "photo.jpg")
    jsonl.write(tmp_path, [Scene("one", str(tmp_path / "photo.jpg"), (640, 480), questions=({"question": "where are my hands"},))])
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_commands_run(desk, capsys):
    lines = [line.strip() for block in BLOCKS for line in block.splitlines()]
    commands = [shlex.split(line, comments=True)[1:] for line in lines if re.match(r"egohoi (ask|describe|predict) ", line)]
    assert {c[0] for c in commands} == {"ask", "describe", "predict"}
    for command in commands:
        assert main(command) == 0, (command, capsys.readouterr().err)
        assert capsys.readouterr().out.strip() or "--out" in command
    assert (desk / "out.png").is_file() and (desk / "answers.jsonl").read_text().count("\n") == 1


def test_the_python_runs(desk):
    (block,) = [b for b in BLOCKS if "import egohoi" in b]
    code = re.sub("^    ", "", block[block.index("    import egohoi") :], flags=re.MULTILINE)
    names: dict = {}
    exec(compile(code.replace("response.entities[0].box", "response.entities[:1]"), "README.md", "exec"), names)
    assert names["response"].query == "Where is the left hand?" and (desk / "out.png").is_file()


@pytest.mark.parametrize("page", sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")]), ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")) if not link.startswith(("http:", "https:", "#"))]
    missing = [link for link in links if not (page.parent / link.partition("#")[0]).exists()]
    assert not missing


def test_every_command_that_the_documents_name_exists():
    from egohoi.apps.cli import COMMANDS

    said = {m for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")] for m in re.findall(r"^    egohoi (\w+)", page.read_text(encoding="utf-8"), re.MULTILINE)}
    assert len(said) > 8 and said <= set(COMMANDS)

"""Configurations: types, sections, key=value words, one line for every mistake, and the files in configs/."""

import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

import pytest
import yaml

from egohoi.errors import BadConfig
from egohoi.training import config
from egohoi.training.config import LoopConfig

CONFIGS = Path(__file__).parents[2] / "configs"


@dataclass(frozen=True)
class Section:
    rate: float = 0.1
    steps: int = 3
    on: bool = False


@dataclass(frozen=True)
class Whole:
    name: str
    parts: tuple[Section, ...] = ()
    kind: Literal["a", "b"] = "a"
    section: Section = field(default_factory=Section)
    table: dict[str, int] = field(default_factory=dict)
    most: int | None = None


def test_values_get_their_types():
    made = config.build(Whole, {"name": "x", "parts": [{"rate": "1e-5"}, {"steps": 4.0}], "kind": "b", "table": {"a": 1}, "most": None})
    assert made == Whole("x", (Section(rate=1e-5), Section(steps=4)), "b", Section(), {"a": 1}, None)
    assert config.plain(made)["parts"][0] == {"rate": 1e-5, "steps": 3, "on": False}


@pytest.mark.parametrize(("values", "message"), [
    ({}, "name: this key is missing"), ({"name": "x", "nme": 1}, "nme: unknown key: did you mean 'name'?"),
    ({"name": "x", "rate": 1}, "did you mean 'section.rate'"), ({"name": 3}, "name: must be a text, got 3"),
    ({"name": "x", "section": {"steps": 1.5}}, r"section.steps: must be a whole number, got 1.5"),
    ({"name": "x", "section": {"on": 1}}, "section.on: must be true or false"), ({"name": "x", "section": 3}, "section: must be a section"),
    ({"name": "x", "parts": [{}, {"rte": 1}]}, r"parts.1.rte: unknown key: did you mean 'parts.1.rate'"),
    ({"name": "x", "kind": "c"}, "kind: must be one of a, b"), ({"name": "x", "parts": {"rate": 1}}, "parts: must be a list"),
    ({"name": "x", "most": "many"}, "most: must be a whole number"), ([], "must be a section of keys"),
])
def test_a_mistake_is_one_line_that_names_the_key(values, message):
    with pytest.raises(BadConfig, match=message) as caught:
        config.build(Whole, values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("values", "message"), [
    ({"steps": 0}, "steps must be at least 1"), ({"lr": float("nan")}, "lr must be 0 or more"), ({"clip": 0}, "clip must be above 0"),
    ({"betas": (0.9,)}, "betas must be two"), ({"batch": 6, "micro_batch": 4}, r"batch \(6\) must be a multiple of micro_batch \(4\)"),
])
def test_numbers_out_of_range(values, message):
    with pytest.raises(BadConfig, match=message):
        LoopConfig(**values)
    with pytest.raises(BadConfig, match="loop: "):
        config.build(LoopConfig, values, "loop")


def test_words_change_keys_in_sections_and_lists_and_not_the_original():
    given = {"loop": {"lr": 1.0}, "data": [{"ratio": 1}, {"ratio": 1}]}
    changed = config.override(given, ["loop.lr=1e-4", "data.1.ratio=2", "out=runs/x=y", "new.key=[1, 2]"])
    assert changed == {"loop": {"lr": "1e-4"}, "data": [{"ratio": 1}, {"ratio": 2}], "out": "runs/x=y", "new": {"key": [1, 2]}}
    assert given == {"loop": {"lr": 1.0}, "data": [{"ratio": 1}, {"ratio": 1}]}
    for word, message in (("lr", "write key=value"), ("data.2.ratio=1", "no place in a list of 2"), ("loop.lr.x=1", "has no keys"),
                          ("out=[", "not YAML"), ("data.x.ratio=1", "count from 0")):
        with pytest.raises(BadConfig, match=message):
            config.override(given, [word])


def test_files_that_are_no_configuration(tmp_path):
    with pytest.raises(BadConfig, match="no such file"):
        config.read(tmp_path / "x.yaml")
    for text, message in (("a: [", "not YAML"), ("- 1", "is a mapping"), ("", "got nothing")):
        (tmp_path / "x.yaml").write_text(text)
        with pytest.raises(BadConfig, match=message):
            config.read(tmp_path / "x.yaml")
    (tmp_path / "x.yaml").write_text("!!python/object/apply:os.system ['touch hacked']")
    with pytest.raises(BadConfig, match="not YAML"):
        config.read(tmp_path / "x.yaml")


def test_what_differs_between_two_runs():
    before = {"out": "a", "loop": {"lr": 1, "save_every": 5}, "data": [1]}
    assert config.differences(before, {"out": "b", "loop": {"lr": 1, "save_every": 9}, "data": [1]}) == []
    assert config.differences(before, {"out": "b", "loop": {"lr": 2, "save_every": 9}, "data": [2]}) == ["data: [1] -> [2]", "loop.lr: 1 -> 2"]


def test_every_key_of_the_fine_tuning_file_is_there_and_explained():
    from egohoi.training.data import SourceConfig
    from egohoi.training.vlm4hoi import VLM4HOITraining

    path = CONFIGS / "vlm4hoi_finetune.yaml"
    values = yaml.safe_load(path.read_text())
    assert set(values) == {f.name for f in fields(VLM4HOITraining)}
    assert set(values["loop"]) == {f.name for f in fields(LoopConfig)}
    assert all(set(source) == {f.name for f in fields(SourceConfig)} for source in values["data"])
    typed = config.build(VLM4HOITraining, values)
    assert typed.loop.lr == 1e-5 and typed.loop.warmup_lr == 1e-6 and typed.loop.weight_decay == 0.05 and typed.loop.warmup_steps == 1000
    assert [source.ratio for source in typed.data] == [50, 50]
    for line in path.read_text().splitlines():
        assert re.fullmatch(r"\s*(- )?\w+:( \S.*\S| \S|) +# \S.*", line), line

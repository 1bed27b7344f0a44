import json

import pytest

from egohoi.apps.cli import main


def test_models_says_what_fits(capsys):
    assert main(["models", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    rows = {row["precision"]: row for row in shown["models"] if row["model"].startswith("vlm4hoi")}
    assert rows["float16"]["weights"] == 15_564_152_832 and rows["int8"]["weights"] < 9.2e9
    assert rows["float16"]["needed"] - rows["float16"]["weights"] == 512 * 524_288 == (rows["float32"]["needed"] - rows["float32"]["weights"]) / 2
    annexe = {row["precision"]: row["weights"] for row in shown["models"] if row["model"].startswith("annexe")}
    assert sorted(annexe) == ["bfloat16", "float16", "float32"] and annexe["bfloat16"] == annexe["float16"]
    # VLM4HOI's weights and five tokens more, each with a row of 4096 in the embedding and one in the head; masks take 32 bits.
    assert (annexe["float32"] - annexe["bfloat16"]) == 15_564_152_832 + 5 * 2 * 4096 * 2
    assert 0.4e9 < 2 * annexe["bfloat16"] - annexe["float32"] < 0.6e9
    free = {place["device"]: place["free"] for place in shown["machine"]}
    assert all(row["fits"]["cpu"] == (row["needed"] * 1.1 < free["cpu"]) for row in rows.values())
    assert main(["models"]) == 0
    assert "15.56 GB" in capsys.readouterr().out


def test_bench_times_a_model(tmp_path, capsys):
    pytest.importorskip("transformers")
    from egohoi.models.vlm4hoi_folder import save_pretrained
    from egohoi.models.vlm4hoi_module import tiny_model
    from egohoi.models.vlm4hoi_processor import tiny_processor

    module = tiny_model()
    save_pretrained(module, tiny_processor(module.config), tmp_path / "m")
    arguments = ["bench", "--model", f"vlm4hoi:{tmp_path / 'm'}", "--repeat", "1", "--max-new-tokens", "6", "--device", "cpu"]
    assert main([*arguments, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["seconds"]["new picture"] > 0 and shown["peak_bytes"] > 1e8 and shown["pictures"] == 1
    assert "pieces_per_second" in shown
    assert main([*arguments, "--precision", "int3"]) == 2
    assert "precision must be one of" in capsys.readouterr().err


def test_the_rate_of_text_is_that_behind_the_first_piece():
    from egohoi.apps.commands.bench import rate

    assert rate([5.0, 5.1, 5.3, 5.5]) == pytest.approx(6.0)
    assert rate([]) is None and rate([1.0]) is None and rate([1.0, 1.0 + 1e-7, 1.0 + 2e-7]) is None

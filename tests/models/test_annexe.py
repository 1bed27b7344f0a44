"""ANNEXE with random weights: batch, sizes, gate, text only, exchangeable parts, files, and the text of mask tokens."""

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import egohoi
from egohoi import images, masks
from egohoi.errors import BadConfig, BadQuery, BadWeights
from egohoi.models import annexe_heads as heads
from egohoi.models import annexe_text
from egohoi.models.annexe import KEPT, Annexe, resized
from egohoi.models.annexe_module import AnnexeConfig, AnnexeModule
from egohoi.models.annexe_processor import AnnexeProcessor, small_tokenizer
from egohoi.records import Query

_spec = importlib.util.spec_from_file_location("annexe_drawn", Path(__file__).parents[1] / "annexe_drawn.py")
drawn = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(drawn)

VOCABULARY = 290


def made(**choices) -> Annexe:
    torch.set_num_threads(1)
    tokenizer = small_tokenizer(["the left hand holds the mug", "right hand and plate", "[INST] <Img> </Img> [/INST]"] * 3, VOCABULARY)
    assert len(tokenizer) == VOCABULARY
    config = AnnexeConfig.small(len(tokenizer), side=32, width=32, layers=1, **choices)
    torch.manual_seed(3)
    model = Annexe(AnnexeModule(config), AnnexeProcessor(tokenizer, config))
    return model


def picture(width=48, height=36, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


def grounded(model, pixels, answer="left hand <MSK_0> and mug <MSK_1>"):
    """The mask side for a given answer (random weights would hardly write one)."""
    seen = images.load(pixels)
    with torch.no_grad():
        inputs = {k: v[None] for k, v in model.processor.pixels(seen).items()}
        patches = model.module.language.patches(inputs["pixel_values"])
        whole = model.processor.sequence([(annexe_text.QUERY_PROMPT.format(query="both"), answer)])
        return model.ground(seen, (inputs, patches, model.module.language.tokens(patches)), whole)


def decide(model, target: bool):
    with torch.no_grad():
        model.module.target.net[-1].weight.zero_()
        model.module.target.net[-1].bias.fill_(9.0 if target else -9.0)
    return model


def talkative(model):
    """An untrained model writes no mask token: raise theirs, and the masks, so that answers have masks."""
    with torch.no_grad():
        model.module.language.llama_model.get_output_embeddings().extra.mul_(60)
        model.module.decoder.bias.bias.fill_(3.0)
    return model


@pytest.mark.parametrize("width, height", [(4032, 3024), (120, 90)])
def test_masks_have_the_size_of_the_picture(width, height):
    answer = decide(talkative(made()), True).ask(picture(width, height), "the left hand")
    assert answer.size == (width, height) and 1 <= len(answer.entities) <= annexe_text.SLOTS and answer.target_found
    for entity in answer.entities:
        assert entity.mask["size"] == [height, width] and masks.decode(entity.mask).shape == (height, width)
        assert entity.box == masks.box(entity.mask) and entity.box[2] <= width and entity.box[3] <= height


def test_the_decision_removes_masks_that_were_written():
    model = talkative(made())
    assert decide(model, True).ask(picture(), "the mug").entities
    answer = decide(model, False).ask(picture(), "the mug")
    assert answer.entities == () and not answer.target_found and answer.to_json()["entities"] == []


def test_the_target_head_removes_the_masks():
    model = made()
    assert len(grounded(decide(model, True), picture()).masks) == 2
    assert grounded(decide(model, False), picture()).masks == []


@pytest.mark.parametrize("choices", [
    {"decoder": "sam2"}, {"pixels": "tower"}, {"depth": False}, {"pixels": "tower", "depth": False, "decoder": "sam2"},
    {"conditioning": "input"}, {"analysis": "apart"},
    {"tower": {"model_type": "dinov2", "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "image_size": 32, "patch_size": 8}},
    {"llm": {"model_type": "qwen2", "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
             "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 2}},
    {"llm": {"model_type": "gpt2", "vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 1, "n_head": 4, "n_positions": 1024,
             "bos_token_id": 1, "eos_token_id": 2}},
    {"tower": {"model_type": "siglip_vision_model", "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
               "num_attention_heads": 4, "image_size": 32, "patch_size": 8}, "decoder": "sam2", "pixels": "tower"},
], ids=str)
def test_every_exchangeable_part_grounds(choices, tmp_path):
    model = decide(made(**choices), True)
    model.save_pretrained(tmp_path)
    back = egohoi.load(f"annexe:{tmp_path}", device="cpu")
    assert back.config == model.config
    asked = [(picture(40, 36), Query("the mug")), (picture(60, 30, 1), Query("both hands"))]
    first, again = model.ask_many(asked), back.ask_many(asked)
    back._kept.clear()
    single = [back.ask(p, q.text) for p, q in asked]
    for one, two, three in zip(first, again, single):
        assert one.text == two.text == three.text and one.entities == two.entities == three.entities
    found = grounded(model, picture())
    assert len(found.masks) == 2 and found.masks[0].shape == (36, 48)
    if model.config.depth:
        assert model.depth(images.load(picture())).shape == (36, 48)
    else:
        with pytest.raises(BadConfig, match="no depth decoder"):
            model.depth(images.load(picture()))


def test_two_tokens_give_two_different_masks():
    model = decide(made(), True)
    with torch.no_grad():
        model.module.decoder.kernel[-1].weight.mul_(20)
        for tensor in (model.module.decoder.bias.weight, model.module.decoder.bias.bias):
            tensor.zero_()
    first, second = grounded(model, picture()).masks
    assert (first != second).any()


@pytest.mark.parametrize("choices", [{}, {"decoder": "sam2"}, {"analysis": "apart", "pixels": "tower"}, {"conditioning": "input"}], ids=str)
def test_the_batch_changes_nothing(choices):
    """One by one, all together, in another order, beside themselves, and in later runs under other random numbers."""
    model = decide(made(**choices), True)
    with torch.no_grad():
        model.module.language.llama_model.get_output_embeddings().extra.mul_(60)
        if model.config.decoder == "light":
            model.module.decoder.kernel[-1].weight.mul_(20)
    asked = [(picture(40 + 8 * k, 36, k), Query("the left hand" + " and the mug" * (k % 3))) for k in range(8)]

    def rows(items):
        model._kept.clear()  # nothing of an earlier run
        made = [r.to_json() for r in model.ask_many(items)]
        for row in made:
            row.pop("milliseconds")
        return made

    whole = rows(asked)
    assert [row for item in asked for row in rows([item])] == whole
    assert rows(asked[::-1])[::-1] == whole
    assert rows([asked[3]] * 3 + asked[:2]) == [whole[3]] * 3 + whole[:2]
    for seed in (1, 2):  # the released code draws tokens at random at inference
        torch.manual_seed(seed)
        assert rows(asked) == whole
    assert any(row["entities"] for row in whole)


def test_a_picture_is_encoded_and_analysed_once(monkeypatch):
    model = decide(talkative(made()), True)
    first = [model.ask(picture(seed=1), text) for text in ("the mug", "both hands")]
    seen, written = [], []
    see, write = model.module.language.patches, model._write
    monkeypatch.setattr(model.module.language, "patches", lambda pixels: seen.append(1) or see(pixels))
    monkeypatch.setattr(model, "_write", lambda images, turns, settings: written.append(len(turns)) or write(images, turns, settings))
    model._kept.clear()
    again = [model.ask(picture(seed=1), text) for text in ("the mug", "both hands")]
    assert len(seen) == 1 and written == [1, 1, 0, 1]  # analysis, answer; then the answer alone
    assert [(r.text, r.analysis, r.entities) for r in first] == [(r.text, r.analysis, r.entities) for r in again]
    for seed in range(2, 9):
        model.ask(picture(seed=seed), "the mug")
    assert len(model._kept) == KEPT


def test_no_mask_wanted_gives_text_only():
    model = decide(made(), True)
    answer = model.ask(picture(), "the left hand", mask=False)
    assert answer.entities == () and answer.task == "ground" and answer.analysis is not None
    described = model.describe(picture())
    assert described.task == "analyze" and described.text == answer.analysis


@pytest.mark.parametrize("task, masks_come", [("answer", False), (None, True), ("ground", True), ("refer", True)])
def test_the_task_decides_on_masks(task, masks_come):
    model = decide(talkative(made()), True)
    answer = model.ask(picture(), "the mug", task=task)
    assert bool(answer.entities) == masks_come and answer.task == (task or "ground") and answer.text is not None


def test_a_decoder_of_sam2_is_taken_over(tmp_path):
    published = drawn.sam2(tmp_path / "sam2", 64)
    sizes = heads.sam2_sizes(str(tmp_path / "sam2"))
    assert sizes["mlp_dim"] == 32  # not what a decoder of our own would have
    decoder = heads.Sam2Decoder(64, sizes=sizes)
    decoder.take(str(tmp_path / "sam2"))
    for name, tensor in published.mask_decoder.state_dict().items():
        assert torch.equal(decoder.net.state_dict()[name], tensor), name
    with pytest.raises(BadConfig, match="64 channels"):
        heads.Sam2Decoder(32, sizes=sizes)
    features = heads.Features(torch.randn(2, 64, 4, 4), torch.randn(2, 64, 16, 16), None)
    assert decoder(torch.randn(3, 64), features, torch.tensor([0, 1, 1])).shape == (3, 16, 16)
    with pytest.raises(BadWeights, match="no config.json there"):
        heads.sam2_sizes(str(tmp_path))
    made().save_pretrained(tmp_path / "annexe")
    with pytest.raises(BadWeights, match="holds no SAM 2"):
        heads.sam2_sizes(str(tmp_path / "annexe"))
    (tmp_path / "sam2" / "model.safetensors").unlink()
    with pytest.raises(BadWeights, match="its weights cannot be read"):
        decoder.take(str(tmp_path / "sam2"))


def test_parts_that_contradict_each_other_are_one_line():
    llm = {"model_type": "gpt2", "vocab_size": 300, "n_embd": 32, "n_layer": 1, "n_head": 4, "bos_token_id": 1, "eos_token_id": 2}
    with pytest.raises(BadConfig, match="llm has 300 tokens of width 32, language.llama says 290"):
        made(llm=llm)
    with pytest.raises(BadConfig, match="llm: needs the model_type"):
        made(llm={"model_type": "nothing"})
    tower = {"model_type": "dinov2", "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 4, "image_size": 32, "patch_size": 8}
    with pytest.raises(BadConfig, match="the vision tower gives 17 tokens of width 16"):
        made(tower=tower).describe(picture())


def test_boxes_and_points_are_refused_in_one_line():
    with pytest.raises(BadQuery, match="in words"):
        made().ask(picture(), "", box=(1, 1, 9, 9))


def test_a_question_beyond_the_language_models_reach_is_refused():
    llm = {"model_type": "gpt2", "vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 1, "n_head": 4, "n_positions": 200,
           "bos_token_id": 1, "eos_token_id": 2}
    model = made(llm=llm, analysis="apart")
    assert model.ask(picture(), "the mug", task="answer").task == "answer"
    with pytest.raises(BadQuery, match="tokens, the language model of annexe reads 200"):
        model.ask(picture(), "the mug and the plate " * 20)


def test_untrained_masks_are_not_given():
    model = made()
    model.untrained = ("decoder",)
    assert model.ask(picture(), "the mug").entities == ()
    with pytest.raises(BadQuery, match="not trained"):
        model.ask(picture(), "the mug", mask=True)


def test_files_are_strict(tmp_path):
    model = made()
    model.save_pretrained(tmp_path)
    back = egohoi.load(f"annexe:{tmp_path}", device="cpu")
    for (name, a), b in zip(model.module.state_dict().items(), back.module.state_dict().values()):
        assert torch.equal(a, b), name
    assert back.ask(picture(), "the mug").text == model.ask(picture(), "the mug").text
    values = json.loads((tmp_path / "config.json").read_text())
    values["annexe"]["decoder"] = "sam2"
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(BadWeights, match="missing|unexpected"):
        egohoi.load(f"annexe:{tmp_path}", device="cpu")
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(BadWeights, match="not 'annexe'"):
        egohoi.load(f"annexe:{tmp_path}", device="cpu")
    with pytest.raises(BadWeights, match="no such folder"):
        egohoi.load(f"annexe:{tmp_path}/none", device="cpu")


@pytest.mark.parametrize("place, value", [
    ("annexe", 5), ("annexe", None), ("untrained", 7), ("untrained", [1]), ("annexe.language", 5), ("annexe.tower", "eva"),
    ("annexe.depth_anything", None), ("annexe.sam2", []), ("annexe.mean", None), ("annexe.mean", [1, 2]), ("annexe.std", 0), ("annexe.std", [0, 1, 1]),
    ("annexe.channels", "x"), ("annexe.channels", 0), ("annexe.threshold", None), ("annexe.pixel_size", "x"), ("annexe.pixel_size", 0),
    ("annexe.decoder_layers", -1), ("annexe.decoder_layers", "x"), ("annexe.decoder_heads", 0), ("annexe.language.llama.vocab_size", "x"),
    ("annexe.language.llama.eos_token_id", []), ("annexe.language.llama.eos_token_id", {}), ("annexe.language.llama.rms_norm_eps", "x"),
    ("annexe.language.vision_eps", None), ("annexe.depth_anything.patch_size", 0), ("annexe.depth_anything.backbone_config", 3),
])
def test_a_configuration_that_makes_no_network_is_one_line(folder_of, place, value):
    values = json.loads((folder_of / "good.json").read_text())
    inner = values
    for key in place.split(".")[:-1]:
        inner = inner[key]
    inner[place.split(".")[-1]] = value
    (folder_of / "config.json").write_text(json.dumps(values))
    with pytest.raises((BadWeights, BadConfig)) as caught:
        egohoi.load(f"annexe:{folder_of}", device="cpu")
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory):
    folder = tmp_path_factory.mktemp("annexe")
    made().save_pretrained(folder)
    (folder / "good.json").write_bytes((folder / "config.json").read_bytes())
    return folder


def test_training_and_inference_write_the_same_prompt():
    processor = made().processor
    whole, opened = processor.sequence([("q1", "a one"), ("q2", "mug <MSK>")]), processor.sequence([("q1", "a one"), ("q2", None)])
    start, stop = whole.spans[1]
    assert whole.ids[:start] == opened.ids
    assert processor.decode(whole.ids[start:stop]) == "mug <MSK>" and whole.ids[stop - 1] == processor.eos


def test_answers_with_mask_tokens_come_apart():
    assert annexe_text.join(["mug"]) == "mug <MSK>"
    text = annexe_text.join(["left hand", "pot and lid"])
    assert text == "left hand <MSK_0> and pot and lid <MSK_1>"
    assert annexe_text.parse(text) == annexe_text.Parsed("left hand and pot and lid", ("left hand", "pot and lid"))
    tagged = annexe_text.tag("The left hand holds the mug.", ["left hand", "mug", "fork"])
    parsed = annexe_text.parse(tagged)
    assert parsed.names == ("left hand", "mug", "fork") and parsed.text.startswith("The left hand holds the mug.")
    assert annexe_text.parse("there is none") == annexe_text.Parsed("there is none", ())


def test_a_mirror_swaps_left_and_right_and_nothing_else():
    assert annexe_text.mirror("Left hand, RIGHT side, the rightmost bright leftover") == "Right hand, LEFT side, the leftmost bright leftover"
    assert annexe_text.mirror(annexe_text.mirror("turn it clockwise with the left")) == "turn it clockwise with the left"


@pytest.mark.parametrize("text, other", [
    ("the mug is left of the plate", "the mug is right of the plate"), ("the mug is left on the table", "the mug is left on the table"),
    ("the person left the kitchen", "the person left the kitchen"), ("right now, the right hand", "right now, the left hand"),
    ("my left-hand glove", "my right-hand glove"), ("the hand that is left, and the hand on the right.", "the hand that is right, and the hand on the left."),
    ("the Left Hand", "the Right Hand"), ("the mug left on the table", "the mug left on the table"),
    ("the objects left in the bowl", "the objects left in the bowl"), ("What is right behind the mug?", "What is right behind the mug?"),
    ("the mug right next to the right hand", "the mug right next to the left hand"), ("the hand on the left in the bowl", "the hand on the right in the bowl"),
    ("the one to her right behind the pan", "the one to her left behind the pan"), ("left on the picture", "right on the picture"),
    ("the knife in the person's left in the sink", "the knife in the person's right in the sink"), ("Left and right in view", "Right and left in view"),
])
def test_a_mirror_knows_what_is_no_side(text, other):
    assert annexe_text.mirror(text) == other and annexe_text.mirror(other) == text


@pytest.mark.parametrize("name, hand", [
    ("left hand", True), ("the right hand of the person", True), ("Hand", True), ("both hands", True), ("hand on the left", True),
    ("hand towel", False), ("mug in the left hand", False), ("object that the right hand holds", False), ("handle", False), ("", False),
])
def test_a_name_says_whether_it_is_a_hand(name, hand):
    assert annexe_text.is_hand(name) is hand


def test_planes_grow_and_shrink():
    plane = torch.zeros(32, 32)
    plane[:, 16:] = 1.0
    assert resized(plane, (120, 90)).shape == (90, 120) and float(resized(plane, (8, 8))[:, 5:].min()) > 0.9

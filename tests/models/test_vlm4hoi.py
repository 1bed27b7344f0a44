"""The model class on tiny random weights: whatever it writes, answers must not depend on batch, cache or streaming."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

import egohoi
from egohoi.apps.cli import main
from egohoi import boxes
from egohoi.errors import BadConfig, BadQuery, BadWeights
from egohoi.models import load
from egohoi.models.base import Generation
from egohoi.models.vlm4hoi import VLM4HOI
from egohoi.models.vlm4hoi_folder import cache_bytes, load_module, save_pretrained, shapes_of, weight_bytes
from egohoi.models.vlm4hoi_module import VLM4HOIConfig, tiny_model
from egohoi.models.vlm4hoi_processor import tiny_processor
from egohoi.records import Query, Turn

torch.set_num_threads(1)
SHORT = Generation(max_new_tokens=12)


def picture(seed, height=90, width=160):
    return np.random.RandomState(seed).randint(0, 255, (height, width, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def model():
    module = tiny_model(seed=5)
    return VLM4HOI(module, tiny_processor(module.config))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Hidden width 64, so that 4-bit layers have whole blocks of 64 weights."""
    llama = {**VLM4HOIConfig.tiny().llama, "hidden_size": 64, "intermediate_size": 128}
    module = tiny_model(seed=6, llama=llama)
    where = tmp_path_factory.mktemp("model") / "m"
    save_pretrained(module, tiny_processor(module.config), where)
    return where


def test_batch_order_and_cache_do_not_change_answers(model):
    items = [(picture(0), "Where is the left hand?"), (picture(1), "a"), (picture(0), "What is the object in the right hand?"),
             (picture(2, 50, 60), Query("", box=(1, 2, 30, 40))), (picture(1), "Where is the left hand?")]
    together = [r.text for r in model.ask_many(items, SHORT)]
    module = model.module
    assert together == [VLM4HOI(module, model.processor).ask_many([item], SHORT)[0].text for item in items]
    assert together == [model.ask_many([item], SHORT)[0].text for item in items]
    # and the same without any shared prefix
    for (image, query), text in zip(items[:3], together):
        ids, mask = model.processor.pad_batch([model.processor.prompt(query)], "left")
        pixels = model.processor.pixels(image)[None]
        assert model.processor.answer(module.generate(ids, mask, pixel_values=pixels, max_new_tokens=12)[0]) == text


def test_a_picture_is_encoded_once(model, monkeypatch):
    calls = []
    encode = type(model.module).encode_image

    def counted(self, pixels):
        calls.append(len(pixels))
        return encode(self, pixels)

    monkeypatch.setattr(type(model.module), "encode_image", counted)
    fresh = VLM4HOI(model.module, model.processor)
    fresh.ask_many([(picture(7), "a"), (picture(8), "b"), (picture(7), "c")], SHORT)
    fresh.ask(picture(7), "d", settings=SHORT)
    assert calls == [2]


@pytest.mark.parametrize("beams", [2, 3])
def test_beams_are_those_of_the_library(model, beams):
    text = model.ask(picture(0), "Where?", settings=Generation(beams=beams, max_new_tokens=8)).text
    ids, mask = model.processor.pad_batch([model.processor.prompt("Where?")], "left")
    pixels = model.processor.pixels(picture(0))[None]
    alone = model.module.generate(ids, mask, pixel_values=pixels, max_new_tokens=8, num_beams=beams)
    assert text == model.processor.answer(alone[0])


def test_sampling_depends_on_its_seed_alone(model):
    def ask(seed, extra=()):
        settings = Generation(temperature=1.5, seed=seed, max_new_tokens=12)
        return model.ask_many([*extra, (picture(0), "Where?")], settings)[-1].text

    before = torch.random.get_rng_state()
    assert ask(1) == ask(1, [(picture(3), "else")])
    assert ask(1) != ask(2)
    assert torch.equal(before, torch.random.get_rng_state())
    with pytest.raises(BadConfig, match="choose one"):
        model.ask(picture(0), "Where?", settings=Generation(temperature=1, beams=2))


def test_streamed_text_is_the_answer(model):
    query = Query("Where is the left hand?")
    *pieces, response = model.stream(picture(0), query, SHORT)
    whole = model.ask(picture(0), query.text, settings=SHORT)
    assert "".join(pieces).strip() == response.text == whole.text and len(pieces) > 1
    assert [p for p in model.stream(picture(0), query, Generation(beams=2, max_new_tokens=4))][-1].text
    early = model.stream(picture(0), query, SHORT)
    next(early)
    early.close()
    assert model.ask(picture(0), query.text, settings=SHORT).text == whole.text


def test_the_command_streams_what_it_otherwise_prints_at_once(folder, tmp_path, capsys):
    Image.fromarray(picture(0)).save(tmp_path / "x.png")
    words = ["ask", str(tmp_path / "x.png"), "Where is the left hand?", "--model", f"vlm4hoi:{folder}", "--device", "cpu", "--max-new-tokens", "8"]
    assert main(words) == 0
    whole = capsys.readouterr().out
    assert main([*words, "--stream"]) == 0
    assert capsys.readouterr().out.strip() == whole.strip() != ""
    assert main([*words, "--stream", "--json"]) == 2
    assert "choose one" in capsys.readouterr().err


def test_the_libraries_have_nothing_to_say(model):
    """What is deprecated there would stand on every user's screen."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for settings in (SHORT, Generation(beams=2, max_new_tokens=4), Generation(temperature=1, max_new_tokens=4)):
            model.ask(picture(7), "Where is the left hand?", settings=settings)


def scripted(model, monkeypatch, answer):
    """The model with its text replaced, to see what is made of a text."""
    monkeypatch.setattr(type(model.processor), "answer", lambda self, ids: answer)
    return model


def test_text_becomes_entities(model, monkeypatch):
    response = scripted(model, monkeypatch, "{<10><20><50><60>}").ask(picture(0), "Where is the left hand?", settings=SHORT)
    entity = response.entities[0]
    assert (entity.name, entity.kind, entity.side, entity.box) == ("left hand", "hand", "left", (16, 18, 80, 54))
    assert response.task == "refer" and response.target_found and 0 < entity.score <= 1
    assert response.query == "Where is the left hand?" and response.picture.shape == (90, 160, 3)
    response = scripted(model, monkeypatch, "").ask(picture(0), "Where is the left hand?", settings=SHORT)
    assert response.entities == () and not response.target_found
    response = scripted(model, monkeypatch, "red cup").ask(picture(0), box=(10, 10, 40, 40), settings=SHORT)
    assert response.task == "identify" and response.entities[0].name == "red cup" and response.entities[0].box == (10, 10, 40, 40)
    response = scripted(model, monkeypatch, "The person opens the <p>cupboard</p> {<0><0><50><50>}").describe(picture(0), SHORT)
    assert response.task == "analyze" and response.analysis == response.text and response.entities[0].name == "cupboard"


def test_the_prompt_has_the_question_as_typed_and_the_box_on_the_grid(model):
    shown = egohoi.images.load(picture(0))
    as_typed = model.prompt(Query("  Where?? is IT"), shown)
    assert as_typed == model.processor.text("</Img>   Where?? is IT [/INST]")
    boxed = model.prompt(Query("", box=(16, 18, 80, 54)), shown)
    assert boxed == model.processor.text("</Img> {<10><20><50><60>} [/INST]")
    assert boxes.BRACES.encode((16, 18, 80, 54), (160, 90)) == "{<10><20><50><60>}"


def test_turns(model):
    first = model.chat(picture(0), "Where?", settings=SHORT)
    assert first.text == model.ask(picture(0), "Where?", settings=SHORT).text
    # a second turn is asked as it is trained: the first with its answer and end symbol, then <s> and the new question
    ids = [*model.processor.prefix(), *model.processor.text("</Img> Where? [/INST]"), *model.processor.text("there"), 2, 1]
    ids += model.processor.text("[INST] And? [/INST]")
    batch, mask = model.processor.pad_batch([ids], "left")
    alone = model.module.generate(batch, mask, pixel_values=model.processor.pixels(picture(0))[None], max_new_tokens=12)
    told = model.chat(picture(0), "And?", [("Where?", "there")], SHORT)
    assert told.text == model.processor.answer(alone[0]) and told.query == "And?"
    query = Query("And?", history=[("Where?", "there")])
    assert list(model.stream(picture(0), query, SHORT))[-1].text == told.text
    # with and without history in one batch
    both = model.ask_many([(picture(0), query), (picture(0), "And?")], SHORT)
    assert [r.text for r in both] == [told.text, model.ask(picture(0), "And?", settings=SHORT).text]
    boxed = Query("And?", history=[Turn("", "a cup", (16, 18, 80, 54))])
    shown = egohoi.images.load(picture(0))
    assert model.prompt(boxed, shown)[: len(model.processor.text("</Img> {<10><20><50><60>} [/INST]"))] == model.processor.text("</Img> {<10><20><50><60>} [/INST]")
    with pytest.raises(BadQuery, match="with its 9 earlier turns has .* tokens"):
        model.ask_many([(picture(0), Query("And?", history=[("a " * 30, "b")] * 9))])


def test_what_it_cannot_do_is_one_line(model):
    with pytest.raises(BadQuery, match="draw a box"):
        model.ask(picture(0), point=(3, 3))
    with pytest.raises(BadQuery, match="tokens, this model reads at most"):
        model.ask(picture(0), "a b " * 400)
    with pytest.raises(BadWeights, match="name a folder"):
        VLM4HOI.from_pretrained(None)
    with pytest.raises(BadConfig, match="precision must be one of"):
        load_module("x", precision="int3")


@pytest.mark.parametrize(("precision", "tolerance"), [("bfloat16", 0.05), ("float16", 0.01), ("int8", 0.05), ("int4", 0.3)])
def test_precisions_stay_near_float32(folder, precision, tolerance):
    if precision in ("int8", "int4"):
        pytest.importorskip("bitsandbytes")
    exact, rough = load_module(folder, "cpu"), load_module(folder, "cpu", precision)
    processor = tiny_processor(exact.config)
    batch = processor.collate([(processor.pixels(picture(0)), processor.conversation([("Where is it?", "there")]))])
    with torch.no_grad():
        a, b = exact(**batch).logits, rough(**batch).logits
    distance = float((a - b).norm() / a.norm())
    assert 0 < distance < tolerance
    answer = load(f"vlm4hoi:{folder}", device="cpu", precision=precision).ask(picture(0), "Where?", settings=SHORT)
    assert answer.model == "vlm4hoi"
    if precision in ("int8", "int4"):
        kinds = {type(m).__name__ for m in rough.modules()}
        assert ("Linear8bitLt" if precision == "int8" else "Linear4bit") in kinds
        with pytest.raises(BadWeights, match="cannot be saved"):
            save_pretrained(rough, processor, folder.parent / "again")


def test_bytes_of_the_published_model_are_computed():
    """Weights by hand: encoder 987,033,600 (39 blocks, positions of 448 pixels), projector, Llama 6,738,415,616, LoRA."""
    weights = 987_033_600 + 23_072_768 + 6_738_415_616 + 33_554_432
    config = VLM4HOIConfig()
    shapes = shapes_of(config)
    assert weight_bytes(shapes, "float16") == 2 * weights == weight_bytes(shapes, "bfloat16")
    assert weight_bytes(shapes, "float32") == 4 * weights
    linear, rows = 32 * (4 * 4096**2 + 3 * 4096 * 11008), 32 * (4 * 4096 + 2 * 11008 + 4096)
    assert weight_bytes(shapes, "int8") == 2 * (weights - linear) + linear + 4 * rows
    assert weight_bytes(shapes, "int4") == 2 * (weights - linear) + linear // 2 + 4 * linear // 64
    assert cache_bytes(config, 1) == 2 * 2 * 32 * 4096

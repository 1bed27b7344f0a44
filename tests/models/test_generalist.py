import numpy as np
import pytest
import torch

from egohoi.errors import BadConfig, BadQuery, BadWeights
from egohoi.images import Picture
from egohoi.models import load
from egohoi.models.base import Generation
from egohoi.models.generalist import Generalist, labelled
from egohoi.records import Query

torch.set_num_threads(1)
PICTURE = Picture("p", np.random.RandomState(0).randint(0, 255, (50, 100, 3), dtype=np.uint8))
TIMES = {"image": 0, "text": 0, "mask": 0}


class Still:
    """Stands for a network where only texts are looked at."""

    def eval(self):
        return self


def reader(codec):
    return Generalist(Still(), None, codec, "hf:x")


def test_json_and_plain_boxes_in_each_convention():
    text = '```json\n[{"bbox_2d": [56, 28, 112, 56], "label": "left hand"}, {"bbox_2d": [0, 0, 56, 28]}]\n```'
    found = reader("absolute").response(PICTURE, Query("Where is the left hand?"), text, (112, 56), TIMES)
    assert [(e.name, e.side) for e in found.entities] == [("left hand", "left"), ("left hand", "left")]
    assert found.entities[0].box == pytest.approx((50, 25, 100, 50)) and found.target_found and found.text == text
    found = reader("thousand").response(PICTURE, Query("Where is the cup?"), "It is at (0, 0, 500, 500).", (112, 56), TIMES)
    assert found.entities[0].name == "cup" and found.entities[0].box == (0, 0, 50, 25)
    none = reader("thousand").response(PICTURE, Query("Where is the cup?"), "There is none.", (112, 56), TIMES)
    assert not none.target_found and none.entities == ()
    assert labelled("no json") == "no json" and labelled("7") == "7"


def test_prompts():
    model = reader("thousand")
    assert model.prompt(Query("What is it made of?"), PICTURE.size) == "What is it made of?"
    assert "0 to 1000" in model.prompt(Query("Where is the cup?"), PICTURE.size)
    assert model.prompt(Query("", box=(10, 5, 50, 25)), PICTURE.size).startswith("What is in the box [100, 100, 500, 500]?")
    with pytest.raises(BadQuery, match="draw a box"):
        model.prompt(Query("", point=(1, 1)), PICTURE.size)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A LLaVA of a few thousand random weights: the same classes that load a real folder."""
    transformers = pytest.importorskip("transformers")
    from egohoi.models.vlm4hoi_processor import tiny_tokenizer

    where = tmp_path_factory.mktemp("llava")
    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["<image>"], special_tokens=True)
    text = transformers.LlamaConfig(
        vocab_size=384, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2, bos_token_id=1,
        eos_token_id=2,
    )
    vision = transformers.CLIPVisionConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=28, patch_size=14
    )
    image_id = tokenizer.convert_tokens_to_ids("<image>")
    config = transformers.LlavaConfig(vision_config=vision, text_config=text, image_token_index=image_id, image_seq_length=4)
    torch.manual_seed(0)
    transformers.LlavaForConditionalGeneration(config).save_pretrained(where)
    images = transformers.CLIPImageProcessor(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    template = (
        "{% for m in messages %}USER: {% for c in m['content'] %}{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}"
        "{% endif %}{% endfor %} ASSISTANT:{% endfor %}"
    )
    transformers.LlavaProcessor(
        image_processor=images, tokenizer=tokenizer, patch_size=14, vision_feature_select_strategy="default",
        chat_template=template, num_additional_image_tokens=1,
    ).save_pretrained(where)
    return where


def test_a_folder_answers(folder):
    model = load(f"hf:{folder}", device="cpu")
    settings = Generation(max_new_tokens=5)
    first = model.ask(PICTURE, "Where is the cup?", settings=settings)
    assert first.task == "refer" and first.model.startswith("hf:") and first.size == (100, 50)
    many = model.ask_many([(PICTURE, "a"), (PICTURE, "Where is the cup?")], settings)
    assert many[1].text == first.text
    with pytest.raises(BadConfig, match="not in int8"):
        load(f"hf:{folder}", device="cpu", precision="int8")


def test_wrong_folders_are_one_line(tmp_path):
    for spec in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(BadWeights) as caught:
            load(f"hf:{spec}", device="cpu")
        assert len(str(caught.value).splitlines()) == 1
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(BadWeights, match="cannot be loaded"):
        load(f"hf:{tmp_path}", device="cpu")
    (tmp_path / "config.json").write_text('{"model_type": "vlm4hoi"}')
    with pytest.raises(BadWeights, match="load it as vlm4hoi:"):
        load(f"hf:{tmp_path}", device="cpu")

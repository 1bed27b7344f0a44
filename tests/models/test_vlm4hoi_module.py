import numpy as np
import pytest
import torch

from egohoi.errors import BadConfig, BadRecord, BadWeights
from egohoi.models.vlm4hoi_module import IGNORE, IMAGE_TOKEN, VLM4HOIConfig, VLM4HOIModule, answer_loss, tiny_model
from egohoi.models.vlm4hoi_processor import tiny_processor, turns_of

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model():
    return tiny_model()


@pytest.fixture(scope="module")
def processor(model):
    return tiny_processor(model.config)


@pytest.fixture(scope="module")
def pixels(processor):
    return processor.pixels(np.random.RandomState(0).randint(0, 255, (90, 160, 3), dtype=np.uint8))


TURNS = (("<image>\nWhere is it?", "{<1><2><3><4>}"), ("And now?", "a left hand"))


def readable(processor, ids):
    return "".join("#" if i == IMAGE_TOKEN else processor.tokenizer.convert_ids_to_tokens(int(i)) for i in ids)


def test_conversation_is_the_sequence_of_the_reference(processor):
    item = processor.conversation(TURNS)
    assert readable(processor, item.ids) == (
        "<s>▁[INST]▁<Img>####▁</Img>▁Where▁is▁it?▁▁[/INST]▁{<1><2><3><4>}</s>"
        "<s>▁[INST]▁And▁now?▁▁[/INST]▁a▁left▁hand</s>"
    )
    kept = [i for i, label in zip(item.ids, item.labels) if label != IGNORE]
    assert readable(processor, kept) == "▁{<1><2><3><4>}</s>▁a▁left▁hand</s>"
    assert all(label in (IGNORE, i) for i, label in zip(item.ids, item.labels))


def test_inference_prompt_has_the_question_as_typed(processor):
    asked = processor.prompt("Where?  is IT")
    assert readable(processor, asked) == "<s><s>▁[INST]▁<Img>####▁</Img>▁Where?▁▁is▁IT▁[/INST]"
    later = processor.prompt("And?", history=[("Where?", "there")])
    assert readable(processor, later).endswith("▁</Img>▁Where?▁[/INST]▁there</s><s>▁[INST]▁And?▁[/INST]")


def test_cuts_of_the_reference_are_on_request_only(processor):
    whole = processor.conversation([("a" * 300, "b" * 300)])
    cut = processor.conversation([("a" * 300, "b" * 300)], max_question_chars=256, max_answer_chars=256)
    assert readable(processor, whole.ids).count("a") == 300 and readable(processor, whole.ids).count("b") == 300
    # '<Img><ImageHere></Img> ' takes 23 of the 256 characters of the question
    assert readable(processor, cut.ids).count("a") == 233 and readable(processor, cut.ids).count("b") == 256
    short = processor.conversation([("q", "b" * 300)], max_text=20)
    assert sum(label != IGNORE for label in short.labels) == 20


def test_runs_of_bytes_are_written_as_sentencepiece_writes_them(processor):
    """One replacement character for a byte that belongs to no character; what is whole within the run stays."""
    ids = processor.tokenizer.get_vocab()

    def written(*tokens):
        return processor.decode([ids[t] for t in tokens])

    assert written("▁", "a", "<0xC3>", "<0xA9>", "b") == "a\u00e9b"
    assert written("<0xFF>", "<0x41>", "<0xC3>", "<0xA9>", "<0xE2>", "<0x82>") == "\ufffdA\u00e9\ufffd\ufffd"
    assert written("a", "<0x80>", "▁", "b", "</s>", "$$", "<0x37>") == "a\ufffd b7"
    assert written("<0xED>", "<0xA0>", "<0x80>") == "\ufffd" * 3 and written() == ""


def test_records_of_the_official_files(processor):
    record = {"id": "7", "conversations": [{"from": "human", "value": "<image>\nHi"}, {"from": "gpt", "value": "there"}]}
    assert turns_of(record) == (("<image>\nHi", "there"),)
    joined = [{"value": "a!@#"}, {"value": "b"}]
    for bad in ({"id": "8"}, {"id": "8", "conversations": [{"value": "a"}]}, {"id": "8", "conversations": joined}):
        with pytest.raises(BadRecord, match="'8'"):
            turns_of(bad)


def test_loss_is_the_mean_over_answer_tokens_and_padding_does_not_matter(model, processor, pixels):
    long, short = processor.conversation(TURNS), processor.conversation([("Hi", "a b")])
    with torch.no_grad():
        both = model(**processor.collate([(pixels, long), (pixels, short)]))
        alone = model(**processor.collate([(pixels, short)]))
    length = len(short.ids)
    assert torch.allclose(both.logits[1, :length], alone.logits[0], atol=1e-5)
    picked = []
    for row, item in enumerate((long, short)):
        logs = both.logits[row].log_softmax(-1)
        picked += [-logs[k - 1, label] for k, label in enumerate(item.labels) if label != IGNORE]
    assert torch.allclose(both.loss, torch.stack(picked).mean(), atol=1e-5)


def test_left_padding_does_not_change_an_answer(model, processor, pixels):
    prompts = [processor.prompt("Where is the left hand of the person?"), processor.prompt("a")]
    ids, mask = processor.pad_batch(prompts, "left")
    both = model.generate(ids, mask, pixel_values=torch.stack([pixels, pixels]), max_new_tokens=6)
    ids, mask = processor.pad_batch(prompts[1:], "left")
    alone = model.generate(ids, mask, pixel_values=pixels[None], max_new_tokens=6)
    assert both[1].tolist() == alone[0].tolist()


def test_only_projector_and_lora_are_trained_and_round_trip(model, processor, pixels):
    own = tiny_model(seed=1).prepare_training()
    own(**processor.collate([(pixels, processor.conversation(TURNS))])).loss.backward()
    with_gradient = {n for n, p in own.named_parameters() if p.grad is not None}
    assert with_gradient == set(own.trainable_names())
    assert all(n.startswith("llama_proj.") or ".lora_" in n for n in with_gradient)
    assert sum("lora_" in n for n in with_gradient) == 2 * 2 * own.config.llama["num_hidden_layers"]
    assert not own.vision.training and own.llama_model.training
    other = tiny_model(seed=2)
    other.load_trainable_state_dict(own.trainable_state_dict())
    assert all(torch.equal(a, b) for a, b in zip(other.trainable_state_dict().values(), own.trainable_state_dict().values()))
    with pytest.raises(BadWeights, match="another LoRA rank"):
        tiny_model(lora_rank=2).load_trainable_state_dict(own.trainable_state_dict())


def test_hidden_states_on_request(model, processor, pixels):
    batch = processor.collate([(pixels, processor.conversation(TURNS))])
    with torch.no_grad():
        output = model(**batch, output_hidden_states=True)
    assert len(output.hidden_states) == 3
    assert torch.allclose(model.llama_model.lm_head(output.hidden_states[-1]), output.logits, atol=1e-5)
    assert model(**batch).hidden_states is None


def test_reductions():
    logits = torch.randn(2, 4, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[IGNORE, 1, 2, 3], [IGNORE, IGNORE, IGNORE, 4]])
    none = answer_loss(logits, labels, "none")
    assert torch.allclose(answer_loss(logits, labels, "sum"), none[0] * 3 + none[1])
    assert torch.allclose(answer_loss(logits, labels), (none[0] * 3 + none[1]) / 4)


def test_wrong_use_is_one_clear_line(model, processor, pixels):
    with pytest.raises(BadWeights, match=r"images \[B, 3, 56, 56\]"):
        model.encode_image(torch.zeros(1, 3, 28, 28))
    with pytest.raises(BadConfig, match="places for image tokens"):
        model(torch.tensor([[1, IMAGE_TOKEN, 5]]), pixel_values=pixels[None])
    with pytest.raises(BadConfig, match="multiple of patch_size"):
        VLM4HOIConfig(image_size=450)
    with pytest.raises(BadConfig, match="unknown key 'colour'"):
        VLM4HOIConfig.from_dict({"colour": 1})
    assert VLM4HOIConfig.from_dict(VLM4HOIConfig.tiny().to_dict()) == VLM4HOIConfig.tiny()


def test_without_lora():
    bare = VLM4HOIModule(VLM4HOIConfig.tiny(lora_rank=0))
    assert bare.trainable_names() == ["llama_proj.weight", "llama_proj.bias"]

"""The demo's tokenizer, processor and model: known ids, round trips, save and load."""

import hashlib
import json

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoTokenizer, ProcessorMixin
from triptych_trainer.demo import build_model, build_processor, build_tokenizer
from triptych_trainer.demo.task import make_sample
from triptych_trainer.models.load import load_processor

VOCABULARY_DIGEST = "9e23345d00feeefe"


@pytest.fixture(scope="module")
def processor():
    return build_processor(build_tokenizer())


def messages(sample):
    """The sample as one conversational prompt with the pictures at their markers."""
    images, parts = iter(sample.images()), []
    for k, text in enumerate(sample.question.split("<image>")):
        parts += [{"type": "image", "image": next(images)}] if k else []
        parts += [{"type": "text", "text": text}] if text else []
    return [{"role": "user", "content": parts}]


def encode(processor, samples):
    return processor.apply_chat_template(
        [messages(sample) for sample in samples],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        processor_kwargs={"padding": True, "return_tensors": "pt"},
    )


def test_every_word_of_the_task_is_one_token(processor):
    tokenizer = processor.tokenizer
    for index in range(200):
        sample = make_sample(index, seed=3, split="any")
        text = sample.prompt(placement="first").replace("<image> ", "")
        assert len(tokenizer(text).input_ids) == len(text.split())
        for fact in sample.facts:
            assert [len(tokenizer(f" {word}").input_ids) for word in fact] == [1, 1]


@pytest.mark.parametrize(
    "text", ["Shelf A : .", "naïve 猫 🙂 \t x", "<think>a</think><answer>b</answer>", " two  spaces "]
)
def test_text_survives_the_tokenizer(processor, text):
    ids = processor.tokenizer(text).input_ids
    assert processor.tokenizer.decode(ids, skip_special_tokens=True) == text


def test_special_tokens_disappear_and_format_tokens_stay(processor):
    tokenizer = processor.tokenizer
    ids = tokenizer("<think>x</think><answer>y</answer><|im_end|><|endoftext|>").input_ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == "<think>x</think><answer>y</answer>"
    assert (tokenizer.pad_token, tokenizer.eos_token, tokenizer.padding_side) == ("<|endoftext|>", "<|im_end|>", "left")


def test_the_vocabulary_is_pinned(processor):
    """Ids of saved demo models stay valid only while this holds; a new vocabulary needs a new digest here."""
    vocabulary = json.dumps(sorted(processor.tokenizer.get_vocab().items(), key=lambda entry: entry[1]))
    assert hashlib.sha256(vocabulary.encode()).hexdigest()[:16] == VOCABULARY_DIGEST
    assert build_tokenizer().backend_tokenizer.to_str() == processor.tokenizer.backend_tokenizer.to_str()


def test_images_stand_at_their_markers(processor):
    sample = make_sample(1, seed=0, split="golden")
    ids = encode(processor, [sample])["input_ids"][0]
    picture = "<|vision_start|>" + "<|image_pad|>" * 4 + "<|vision_end|>"
    expected = sample.question.replace("<image>", picture)
    assert processor.tokenizer.decode(ids) == f"<|im_start|>user\n{expected}<|im_end|>\n<|im_start|>assistant\n"


def test_processor_and_model_come_back_from_disk(processor, tmp_path):
    model, samples = build_model(0), [make_sample(index, seed=0, split="any") for index in range(3)]
    batch = encode(processor, samples)
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = load_processor(str(tmp_path))
    assert isinstance(loaded, ProcessorMixin)
    assert loaded.chat_template == processor.chat_template
    again = encode(loaded, samples)
    assert again.keys() == batch.keys()
    for name in batch:  # torchvision's image processor rounds in another way than Pillow's, which was saved
        torch.testing.assert_close(again[name].double(), batch[name].double(), rtol=0, atol=1e-6)
    loaded_model = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(loaded_model(**batch).logits, model(**batch).logits, rtol=0, atol=0)
    assert AutoTokenizer.from_pretrained(tmp_path).get_vocab() == processor.tokenizer.get_vocab()


def test_the_place_of_an_image_changes_what_the_model_says(processor):
    sample = make_sample(0, seed=0, split="golden")
    model, conversation = build_model(0), messages(sample)
    swapped = [{"role": "user", "content": list(conversation[0]["content"])}]
    parts = swapped[0]["content"]
    first, second = (k for k, part in enumerate(parts) if part["type"] == "image")
    parts[first], parts[second] = parts[second], parts[first]
    batch = processor.apply_chat_template(
        [conversation, swapped],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        processor_kwargs={"return_tensors": "pt"},
    )
    assert torch.equal(batch["input_ids"][0], batch["input_ids"][1])
    with torch.no_grad():
        straight, crossed = model(**batch).logits[:, -1]
    assert (straight - crossed).abs().max() > 1e-3


def test_models_follow_their_seed_and_leave_the_random_state_alone():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, same, other = build_model(0), build_model(0), build_model(1)
    assert torch.equal(torch.rand(3), expected)
    weights = [model.get_input_embeddings().weight for model in (one, same, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert 0.6e6 < sum(weight.numel() for weight in one.parameters()) < 0.9e6

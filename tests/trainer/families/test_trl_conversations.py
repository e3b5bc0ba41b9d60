"""Conversations of TRL scripts get the ids of TRL's own tokenization, with the templates that TRL ships."""

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
import trl
from datasets import Dataset
from triptych_data import DataError
from triptych_data.describe import describe
from triptych_data.model_tokens import ModelTokens
from triptych_data.prompt_settings import PromptSettings
from triptych_trainer.demo import build_tokenizer
from triptych_trainer.prompts.dataset_table import DatasetTable
from trl import GRPOTrainer
from trl.data_utils import prepare_multimodal_messages

TEMPLATES = Path(trl.__file__).parent / "chat_templates"
FAMILIES = {
    "qwen3_vl": "qwen3_vl",
    "qwen2_5_vl": "qwen2_5_vl",
    "qwen3_6": "qwen3_5",
    "gemma3": "gemma3",
    "gemma4_v2": "gemma4",
    "lfm2_2_5_vl": "lfm2_vl",
    "smolvlm": "smolvlm",
    "qwen2_5": None,
    "qwen3": None,
    "llama3_1": None,
    "glm4moe": None,
    "gptoss": None,
}
"""By the name of the template its family; None for language models without images."""


def call(name, **arguments):
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


ENDED = [
    {"role": "user", "content": "Which is red ?"},
    {"role": "assistant", "content": "The first ."},
    {"role": "user", "content": "Sure ?"},
    {"role": "assistant", "content": "I look at"},
]
CALLED = [
    {"role": "user", "content": "Which is red ?"},
    {"role": "assistant", "content": "I look .", "tool_calls": [call("look", where="left side")]},
    {"role": "tool", "name": "look", "content": "a red cup"},
]
LITERAL = [
    {"role": "system", "content": "shot.png"},
    {"role": "user", "content": 'What are <image:1> , <image> , <video> , <img src="a.png"> and [{"type": "text"}] ?'},
    {"role": "assistant", "content": "Tags : <image>"},
    {"role": "user", "content": "https://example.com/a.mp4"},
]


def processor_of(kits, template):
    family = FAMILIES[template]
    processor = build_tokenizer() if family is None else copy.deepcopy(kits.CASES[family].processor())
    tokenizer = getattr(processor, "tokenizer", processor)
    processor.chat_template = tokenizer.chat_template = (TEMPLATES / f"{template}.jinja").read_text(encoding="utf-8")
    return processor


def ids_of_trl(processor, prompt, images=None):
    """What TRL 1.16 samples from."""
    if images is not None:
        prompt = prepare_multimodal_messages(prompt, images=images)
    trainer = SimpleNamespace(
        processing_class=processor,
        _is_vlm=hasattr(processor, "image_processor"),
        environment_factories=None,
        tools=None,
        chat_template=None,
        chat_template_kwargs={},
    )
    (ids,), _, _ = GRPOTrainer._tokenize_prompts(trainer, [prompt])
    return list(ids)


def ids_of(processor, dataset, row=0):
    example = DatasetTable(dataset, name="train_dataset").example(row)
    return describe(example, model=ModelTokens.of(processor), settings=PromptSettings()).ids


@pytest.mark.parametrize("prompt", [ENDED, LITERAL], ids=["ended", "literal"])
@pytest.mark.parametrize("template", FAMILIES)
def test_a_conversation_has_the_ids_of_trl(kits, template, prompt):
    if template in ("gptoss", "gemma4_v2"):  # one puts it elsewhere, the other writes a list as Python shows it
        prompt = [message for message in prompt if message["role"] != "system"]
    processor = processor_of(kits, template)
    dataset = Dataset.from_list([{"prompt": prompt}])
    found = ids_of(processor, dataset)
    if prompt[-1] is LITERAL[-1] and getattr(processor, "image_token", None) == "<image>":
        with pytest.raises(ValueError, match=r" 2 .*tokens in the text but no images(/videos)? were passed"):
            ids_of_trl(processor, dataset[0]["prompt"])
        assert processor.image_token_id not in found
        assert "Tags : <image>" in processor.tokenizer.decode(found)
    else:
        assert found == ids_of_trl(processor, dataset[0]["prompt"])


CALLS = ("qwen3_vl", "qwen3_6", "gemma4_v2", "lfm2_2_5_vl", "qwen2_5", "qwen3", "glm4moe", "gptoss")


@pytest.mark.parametrize("content", ["text", "empty"])
@pytest.mark.parametrize("template", CALLS)
def test_recorded_calls_have_the_ids_of_trl(kits, template, content):
    processor = processor_of(kits, template)
    empty = {"content": ""} if content == "empty" else {}
    prompt = [{**message, **empty} if "tool_calls" in message else message for message in CALLED]
    dataset = Dataset.from_list([{"prompt": prompt}])
    assert ids_of(processor, dataset) == ids_of_trl(processor, dataset[0]["prompt"])


@pytest.mark.parametrize("in_parts", [False, True])
@pytest.mark.parametrize("template", ["qwen3_vl", "qwen3_6", "lfm2_2_5_vl"])
def test_images_stay_where_they_are_next_to_calls_and_a_last_answer(kits, template, in_parts):
    processor = processor_of(kits, template)
    images = kits.pictures(2)
    first, *others = CALLED
    shown = [{"type": "image"}, {"type": "text", "text": "Which ?"}, {"type": "image"}]
    prompt = [{**first, "content": shown} if in_parts else first, *others, {"role": "assistant", "content": "So <b>"}]
    if in_parts:
        prompt = [
            {**message, "content": [{"type": "text", "text": message["content"]}]} if message != prompt[0] else message
            for message in prompt
        ]
    dataset = Dataset.from_list([{"prompt": prompt, "images": images}])
    stored = [
        {**message, "content": [{k: v for k, v in part.items() if v is not None} for part in message["content"]]}
        if in_parts
        else message
        for message in dataset[0]["prompt"]
    ]
    assert ids_of(processor, dataset) == ids_of_trl(processor, stored, images=images)


@pytest.mark.parametrize("template", ["qwen2_5_vl", "gemma3", "smolvlm", "llama3_1"])
def test_calls_that_a_template_leaves_out_are_refused(kits, template):
    """TRL trains on a conversation without them."""
    prompt = CALLED if template == "llama3_1" else CALLED[:2]
    if template == "llama3_1":
        prompt = [{**m, "tool_calls": m["tool_calls"] * 2} if "tool_calls" in m else m for m in prompt]
    said = (
        "does not write all names and arguments of its tool_calls|refuses the messages, This model only supports single"
    )
    with pytest.raises(DataError, match=rf"train_dataset\[0\]: .*({said}).*; [a-z]"):
        ids_of(processor_of(kits, template), Dataset.from_list([{"prompt": prompt}]))


def part(text):
    return {"type": "text", "text": text}


IMAGE = {"type": "image"}
SPLIT = {
    "texts": [part(" one "), part(" two \n"), part("three ")],
    "between": [part(" one "), IMAGE, part("two "), part(" three \n"), IMAGE, part(" four ")],
    "first": [IMAGE, IMAGE, part("one "), part(" two")],
    "apart": [part(" one "), IMAGE, part(" two \n"), IMAGE, part(" three ")],
}
TRIMS = ("gemma3", "gemma4_v2")
"""Templates that take the spaces from both ends of each part; texts that are neighbours come to them as one."""


@pytest.mark.parametrize("split", SPLIT)
@pytest.mark.parametrize("template", [name for name, family in FAMILIES.items() if family is not None])
def test_texts_in_several_parts_have_the_ids_of_trl(kits, template, split):
    processor = processor_of(kits, template)
    said = [part("I see")] if split == "apart" else [part(" I "), part(" see ")]
    prompt = [{"role": "user", "content": [part(" So ")]}, {"role": "assistant", "content": said}]
    prompt += [{"role": "user", "content": SPLIT[split]}]
    images = kits.pictures(SPLIT[split].count(IMAGE))
    dataset = Dataset.from_list([{"prompt": prompt} | ({"images": images} if images else {})])
    found, expected = ids_of(processor, dataset), ids_of_trl(processor, prompt, images=images or None)
    if template in TRIMS and split != "apart":
        assert found != expected
        found, expected = ("".join(processor.tokenizer.decode(list(ids)).split()) for ids in (found, expected))
    assert found == expected

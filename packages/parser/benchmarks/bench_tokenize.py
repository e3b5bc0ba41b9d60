"""Markers to ids: parse + bind + tokenize against the Qwen2.5-VL processor's own text path, and the tokenizer's floor.

Every image takes 1,024 placeholders (896 x 896 pixels). The processor does everything it does to text: chat template,
expansion, encoding, its checks and token types; only its image step is replaced, by the grid it would find. The floor
is the Rust tokenizer, asked for ids only, on the rendered prompt with one placeholder per image. Ids are compared in
each test.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from PIL import Image
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast
from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from triptych_parser import bind, parse, tokenize

SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"]
TEMPLATE = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n"
    "You are a helpful assistant.<|im_end|>\n{% endif %}<|im_start|>{{ message['role'] }}\n"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VOCABULARY = (
    "the a of and to which picture screen button red blue shows before after tap changed window left right 12 2026 "
    "compare describe, cursor. question? (answer) très größer картинка 图片 画面 صورة"
)
WORDS = VOCABULARY.split()
WORD_PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
SIZE = (896, 896)
SIDE = 64  # patches of 14 pixels
CASES = [(images, characters) for images in (1, 8, 64) for characters in (1_000, 10_000, 100_000)]


class KnownGrids(Qwen2_5_VLProcessor):
    """The stock processor with its image step replaced by what it would find, and without its video branch."""

    def __init__(self, image_processor: Any, tokenizer: Any, chat_template: str) -> None:
        super().__init__(image_processor, tokenizer, chat_template=chat_template)

    @classmethod
    def get_attributes(cls) -> list[str]:
        return ["image_processor", "tokenizer"]

    def _process_images(self, images: Any, **options: Any) -> tuple[dict[str, Any], list[str]]:
        grids = {"image_grid_thw": torch.tensor([[1, SIDE, SIDE]] * len(images))}
        return grids, [self.replace_image_token(grids, index) for index in range(len(images))]


def words(characters: int) -> list[str]:
    """Words of about so many characters in all, the same ones every time."""
    draw = random.Random(0)
    drawn: list[str] = []
    while characters > 0:
        drawn.append(draw.choice(WORDS))
        characters -= len(drawn[-1]) + 1
    return drawn


@cache
def processor() -> KnownGrids:
    """A Qwen2.5-VL processor around a byte-level BPE with Qwen's word pattern, trained here."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=2_000, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([" ".join(words(20_000))], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", chat_template=TEMPLATE)
    fast.add_special_tokens({"additional_special_tokens": SPECIALS})
    return KnownGrids(Qwen2VLImageProcessorPil(), fast, TEMPLATE)


@cache
def prompt(images: int, characters: int) -> str:
    """A text with images at even distances."""
    drawn = words(characters)
    distance = max(1, len(drawn) // images)
    for index in range(images):
        drawn.insert(index * (distance + 1), "<image>")
    return " ".join(drawn)


def ours(text: str, images: int) -> list[int]:
    return tokenize(bind(parse(text), images), processor(), image_sizes=[SIZE] * images).ids


def theirs(messages: list[dict[str, Any]], pictures: list[Image.Image]) -> list[int]:
    rendered = processor().apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return list(processor()(text=[rendered], images=pictures)["input_ids"][0])


def floor(rendered: str) -> list[int]:
    return list(processor().tokenizer.backend_tokenizer.encode_batch_fast([rendered], add_special_tokens=False)[0].ids)


def prepared(images: int, characters: int) -> tuple[str, list[dict[str, Any]], list[Image.Image]]:
    text = prompt(images, characters)
    pictures = [Image.new("RGB", (56, 56))] * images  # never looked at: the grids are known
    return text, bind(parse(text), images).messages(), pictures


def grouped(test: Callable[..., None]) -> Callable[..., None]:
    marks = [
        pytest.param(images, characters, marks=pytest.mark.benchmark(group=f"{images} images, {characters} characters"))
        for images, characters in CASES
    ]
    return pytest.mark.parametrize(("images", "characters"), marks)(test)


@pytest.mark.slow_except("1-*", "8-1000")
@grouped
def test_ours(benchmark: Any, images: int, characters: int) -> None:
    text, messages, pictures = prepared(images, characters)
    ids = benchmark(ours, text, images)
    assert ids == theirs(messages, pictures)
    benchmark.extra_info["tokens"] = len(ids)


@pytest.mark.slow_except("1-*", "8-1000")
@grouped
def test_processor(benchmark: Any, images: int, characters: int) -> None:
    text, messages, pictures = prepared(images, characters)
    ids = benchmark(theirs, messages, pictures)
    assert ids == ours(text, images)
    benchmark.extra_info["tokens"] = len(ids)


@grouped
def test_tokenizer_alone(benchmark: Any, images: int, characters: int) -> None:
    text, messages, _ = prepared(images, characters)
    rendered = processor().apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    ids = benchmark(floor, rendered)
    placeholder = processor().image_token_id
    assert ids.count(placeholder) == images
    expanded = [number for number in ids for _ in range(SIDE**2 // 4 if number == placeholder else 1)]
    assert expanded == ours(text, images)
    benchmark.extra_info["tokens"] = len(ids)

"""Literal text with anything in it: parts to text, parsed, tokenized and decoded, it is what it was."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from processor_zoo import built
from triptych_parser import DIALECTS, bind, convert, parse, render, tokenize
from triptych_parser.expanders import expander_of
from triptych_parser.vocabulary import vocabulary_of

LOSSLESS = [  # tokenizers that decode to the text they were given, and templates that trim nothing
    "qwen2_5_vl",
    "qwen3_vl",
    "glm4v",
    "ernie4_5_vl_moe",
    "paddleocr_vl",
    "internvl",
    "llava_siglip",
    "aya_vision",
    "minicpmv4_6",
    "ovis2",
    "mistral3",
    "idefics3",
]
MARKERS = [
    *("<image>", "<image", "<image:", "<image|", "<image:2>", "<image:name|an annotation>", r"\<image>", "image>"),
    *("<|image_", "<|image_1|>", "<|image_1", "<|vision_start|><|image_pad|><|vision_end|>", "[IMG]", "[IMG", "IMG]"),
    *("<start_of_image>", "(<image>./</image>)", "(<image>", "./</image>)", "Image-1: ", "Image-2: ", "Image 1: "),
    *("{{ bos_token }}", "{% raise %}", "\ue000", "\ue0001\ue001", "\ue002", "\\", "\\\\", "\n", "\n\n", " ", "  "),
    *("<", ">", "|", ":", "[", "]", "a", "0", "é", "e\u0301", "图", "🙂", "\u200d", "\u202e", "\x00", "\r", "\t"),
]
TEXT_DIALECTS = [name for name, dialect in DIALECTS.items() if dialect.opener]


@cache
def fragments(name: str) -> list[str]:
    """What looks like a marker, like a special token of a family's tokenizer, or like a piece of one."""
    specials = list(vocabulary_of(built(name).tokenizer).specials)
    halves = [half for token in specials for half in (token[: len(token) // 2], token[len(token) // 2 :]) if half]
    return [*MARKERS, *specials, *dict.fromkeys(halves)]


def texts(name: str) -> st.SearchStrategy[str]:
    known = st.lists(st.sampled_from(fragments(name)), max_size=8).map("".join)
    anything = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"), max_size=20)
    return st.one_of(known, anything, st.tuples(known, anything, known).map("".join))


def written(processor: Any, pieces: list[str], sizes: list[tuple[int, int]]) -> str:
    """The whole prompt as text: the chat template around the pieces, the images at their full length."""
    expander = expander_of(processor)
    content: list[dict[str, Any]] = []
    for index, piece in enumerate(pieces):
        content += [{"type": "text", "text": f"\ue100{index}\ue101"}] * bool(piece) + [{"type": "image"}]
    messages = [{"role": "user", "content": content[:-1]}]
    rendered = processor.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    frame = rendered.split(expander.template_token)
    images = []
    for expansion in expander.expand(sizes):
        stretches = expansion.text.split(expander.placeholder)
        runs = [expander.placeholder * count for count in expansion.runs]
        images.append("".join(a + b for a, b in zip(stretches, [*runs, ""], strict=True)))
    whole = "".join(a + b for a, b in zip(frame, [*images, ""], strict=True))
    return re.sub("\ue100(\\d)\ue101", lambda found: pieces[int(found[1])], whole)


def labelled(pieces: list[str]) -> list[str]:
    """The pieces as InternVL's dialect writes them: "Image-k: " before images that need it."""
    found = [re.search(r"Image-(\d{1,9}): \Z", piece, re.ASCII) for piece in pieces[:-1]]
    numbers = [int(label[1]) if label else None for label in found]
    needed = len(numbers) > 1 or any(label not in (None, number) for number, label in enumerate(numbers, start=1))
    labels = [f"Image-{n}: " if needed and label != n else "" for n, label in enumerate(numbers, start=1)]
    return [piece + label for piece, label in zip(pieces, [*labels, ""], strict=True)]


@pytest.mark.parametrize("name", LOSSLESS)
@settings(max_examples=max(5, settings.default.max_examples // 5))
@given(data=st.data())
def test_literal_text_comes_back_from_the_ids(name: str, data: st.DataObject) -> None:
    processor = built(name)
    sizes = data.draw(st.lists(st.sampled_from([(28, 28), (56, 84), (30, 112)]), min_size=1, max_size=3))
    pieces = data.draw(st.lists(texts(name), min_size=len(sizes) + 1, max_size=len(sizes) + 1))
    dialect = data.draw(st.sampled_from(TEXT_DIALECTS))
    parts: list[dict[str, Any]] = []
    for piece in pieces:
        parts += [{"type": "text", "text": piece}, {"type": "image"}]
    messages = [{"role": "user", "content": parts[:-1]}]
    bound = bind(parse(messages, dialect="parts"), len(sizes))
    text = render(convert(bound, to=dialect).prompt)
    again = bind(parse(text, dialect=dialect), len(sizes))
    if dialect == "internvl":
        pieces = labelled(pieces)
    result = tokenize(again, processor, image_sizes=sizes)
    assert processor.tokenizer.decode(result.ids) == written(processor, pieces, sizes)
    specials = set(vocabulary_of(processor.tokenizer).specials.values())
    harmless = tokenize(bind(parse("a".join(["<image>"] * len(sizes))), len(sizes)), processor, image_sizes=sizes)
    assert [number for number in result.ids if number in specials] == [n for n in harmless.ids if n in specials]

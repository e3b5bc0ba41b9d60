"""Ids equal the family's own processor, id for id."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from triptych_parser import BoundPrompt, bind, parse, tokenize

PROMPTS = {
    "no image": "Say hello.",
    "one": "What is in <image>?",
    "first": "<image>Describe it.",
    "last": "Describe it: <image>",
    "only": "<image>",
    "adjacent": "Compare <image><image><image> now",
    "interleaved": "Before: <image> After: <image>. And <image>!",
    "line breaks": "A\n<image>\n\nB\n\n\n<image>\n",
    "spaces": "  left  <image>  right  ",
    "unicode": "この画像 <image> に 🙂 と 图片 <image> があります",
    "right to left": "قارن بين <image> و <image> من فضلك",
    "combining": "e\u0301a\u0300 <image> \u200f\u200d\ufeff",
    "repetition": "ab" * 5_000 + "<image>" + "a " * 5_000,
    "reuse": "<image:1> and again <image:1>",
    "out of order": "<image:3> <image:1> <image:2>",
}
SIZES = [(56, 84), (30, 112), (200, 40)]


def own_ids(processor: Any, bound: BoundPrompt, sizes: list[tuple[int, int]], **options: Any) -> list[int]:
    """What the family's processor makes of the same messages and images."""
    pictures = [Image.new("RGB", (width, height), (9, 99, 199)) for height, width in sizes]
    order = iter(bound.image_order)
    messages = bound.messages()
    for message in messages:
        for part in message["content"]:
            if part["type"] == "image":
                part["image"] = pictures[next(order)]
    result = processor.apply_chat_template(
        messages, tokenize=True, return_dict=True, add_generation_prompt=True, processor_kwargs=options
    )
    return list(result["input_ids"][0])


def bound_prompt(text: str, sizes: list[tuple[int, int]] | None = None) -> BoundPrompt:
    prompt = parse(text)
    count = max([prompt.num_markers, *(m.ref for m in prompt.markers if isinstance(m.ref, int))], default=0)
    if any(marker.ref for marker in prompt.markers):
        count = max(int(marker.ref or 0) for marker in prompt.markers)
    return bind(prompt, count)


@pytest.mark.parametrize("name", PROMPTS)
def test_ids_equal_the_processors(family: SimpleNamespace, name: str) -> None:
    bound = bound_prompt(PROMPTS[name])
    sizes = SIZES[: bound.num_images]
    placement = "template" if family.name.startswith("llava") else "exact"
    result = tokenize(bound, family.processor, image_sizes=sizes, placement=placement)
    assert result.ids == own_ids(family.processor, bound, sizes)

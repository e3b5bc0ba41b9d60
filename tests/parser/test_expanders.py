"""Ids equal the family's own processor, id for id."""

from __future__ import annotations

import random
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from triptych_parser import BoundPrompt, MarkerError, bind, parse, tokenize
from triptych_parser.expanders import Expansion, ImageExpander, by_processor, expander_of, register_expander
from triptych_parser.verify import check_processor

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
    if "Ovis2" in type(processor).__name__:
        options["return_tensors"] = "pt"  # it cannot do without
    result = processor.apply_chat_template(
        messages, tokenize=True, return_dict=True, add_generation_prompt=True, processor_kwargs=options
    )
    return [int(number) for number in result["input_ids"][0]]


def bound_prompt(text: str) -> BoundPrompt:
    """Bind a prompt to as many images as it speaks of."""
    prompt = parse(text)
    numbers = [marker.ref for marker in prompt.markers if isinstance(marker.ref, int)]
    return bind(prompt, max(numbers, default=prompt.num_markers))


@pytest.mark.slow_except(
    "qwen2_5_vl-*", "internvl-*", "llava_onevision-*", "gemma3-*", "smolvlm-*", "idefics3-*", "pixtral-*", "glm4v-*"
)
@pytest.mark.parametrize("name", PROMPTS)
def test_ids_equal_the_processors(family: SimpleNamespace, name: str) -> None:
    bound = bound_prompt(PROMPTS[name])
    sizes = SIZES[: bound.num_images]
    if family.name == "paligemma" and not bound.num_images:
        with pytest.raises(MarkerError, match="PaliGemmaProcessor takes no prompt without an image"):
            tokenize(bound, family.processor)
        return
    result = tokenize(bound, family.processor, image_sizes=sizes, chat_template_images=family.chat_template_images)
    assert result.ids == own_ids(family.processor, bound, sizes)


@pytest.mark.slow_except(
    "qwen2_5_vl", "internvl", "llava_onevision", "gemma3", "smolvlm", "idefics3", "pixtral", "glm4v"
)
def test_ids_equal_for_any_size(family: SimpleNamespace) -> None:
    draw = random.Random(7)
    sizes = [(draw.randint(20, 160), draw.randint(20, 160)) for _ in range(10)]
    sizes += [(28, 28), (29, 27), (160, 20), (20, 160), (112, 113)]
    single = [(bound_prompt("a <image> b"), [size]) for size in sizes]
    pairs = [(bound_prompt("a <image> b <image>"), [one, two]) for one, two in pairwise(sizes)]
    for bound, given in single + pairs:
        result = tokenize(bound, family.processor, image_sizes=given, chat_template_images="template")
        assert result.ids == own_ids(family.processor, bound, given), given


@pytest.mark.slow_except(
    "qwen2_5_vl", "internvl", "llava_onevision", "gemma3", "smolvlm", "idefics3", "pixtral", "glm4v"
)
def test_turns_with_a_system_prompt_and_an_answer(family: SimpleNamespace) -> None:
    messages = [
        {"role": "system", "content": "Answer briefly.\n"},
        {"role": "user", "content": "<image>What is it?"},
        {"role": "assistant", "content": " A cat. "},
        {"role": "user", "content": "And <image>, next to <image>?\n\n"},
    ]
    bound = bind(parse(messages), 3)
    result = tokenize(bound, family.processor, image_sizes=SIZES, chat_template_images="template")
    assert result.ids == own_ids(family.processor, bound, SIZES)


def test_image_options_of_the_call_change_the_expansion(build: Any) -> None:
    bound, sizes = bound_prompt("<image>"), [(60, 150)]
    for name, options in {
        "gemma3": {"do_pan_and_scan": True, "pan_and_scan_min_crop_size": 20},
        "smolvlm": {"do_image_splitting": False},
        "internvl": {"crop_to_patches": False},
        "qwen2_5_vl": {"size": {"shortest_edge": 28 * 28 * 30, "longest_edge": 28 * 28 * 40}},
        "glm4v": {"size": {"shortest_edge": 28 * 28 * 30, "longest_edge": 28 * 28 * 80}},
    }.items():
        plain = tokenize(bound, build(name), image_sizes=sizes)
        changed = tokenize(bound, build(name), image_sizes=sizes, images_kwargs=options)
        assert changed.ids == own_ids(build(name), bound, sizes, images_kwargs=options)
        assert changed.ids != plain.ids


def test_the_tokenizers_here_are_as_awkward_as_the_real_ones(build: Any) -> None:
    """Space in front always, at the first piece only, or never; line breaks that merge with a neighbour's."""
    cases = {
        "llava": (True, True),
        "llava_llama_tokenizer": (True, True),
        "llava_metaspace": (True, False),
        "gemma3": (False, False),
    }
    for name, (at_start, after_special) in cases.items():
        tokens = build(name).tokenizer.tokenize("see</s>see")
        middle = tokens.index("</s>") + 1
        assert (tokens[0].startswith("▁"), tokens[middle].startswith("▁")) == (at_start, after_special)
    assert "\n\n\n" in build("gemma3").tokenizer.tokenize("<end_of_image>\n\n\nword")


def test_an_expander_of_ones_own_serves_its_class(build, monkeypatch):
    monkeypatch.setattr(by_processor, "_own", {})
    processor = build("llava")
    mine = ImageExpander(
        template_token="<image>", placeholder="<image>", expand=lambda sizes: [Expansion(text="<image>", runs=(3,))]
    )
    register_expander("LlavaProcessor", lambda processor, options: mine)
    assert expander_of(processor) is mine
    with pytest.raises(MarkerError):
        check_processor(processor)
    register_expander("SomethingElse", lambda processor, options: mine)
    assert expander_of(build("internvl")) is not mine

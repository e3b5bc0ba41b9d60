"""Budgets: transformers' own sizes where those keep their limits, and limits that are kept everywhere."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize as theirs
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil
from triptych_data import Budget, ImageError, ImageSource, VisionSpec
from triptych_data.budget import common_cap, fit_sizes, smart_resize


def sizes(seed: int, count: int):
    generator = random.Random(seed)
    for _ in range(count):
        yield int(2 ** generator.uniform(0, 13.5)), int(2 ** generator.uniform(0, 13.5))


@pytest.mark.slow_except("(4, 16)-28", "(256, 1280)-32")
@pytest.mark.parametrize("factor", [28, 32])
@pytest.mark.parametrize("tokens", [(4, 1280), (4, 16), (256, 1280), (256, 256), (4, 16384)], ids=str)
def test_sizes_equal_transformers_wherever_those_keep_the_limit(factor, tokens):
    low, high = (count * factor**2 for count in tokens)
    legal = 0
    for height, width in sizes(factor, 20_000):
        if max(height, width) / min(height, width) > 200:
            with pytest.raises(ValueError, match="aspect ratio of at most 200"):
                smart_resize(height, width, factor=factor, min_pixels=low, max_pixels=high)
            continue
        expected = theirs(height, width, factor, low, high)
        got = smart_resize(height, width, factor=factor, min_pixels=low, max_pixels=high)
        assert got[0] % factor == got[1] % factor == 0
        assert got[0] >= factor
        assert got[1] >= factor
        assert got[0] * got[1] <= high
        if 0 < expected[0] * expected[1] <= high:
            assert got == expected
            legal += 1
            if low <= got[0] * got[1] and max(got) / min(got) <= 200:  # then a second pass changes nothing
                assert theirs(*got, factor, low, high) == got
    assert legal > 4000


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(30, 4000), st.integers(30, 4000)), min_size=1, max_size=8),
    st.integers(0, 3000),
)
def test_a_prompt_keeps_its_cap_and_uses_it(images, extra):
    factor, low, high = 28, 4 * 784, 1280 * 784
    limits = [(low, high)] * len(images)
    limit = 4 * len(images) + extra
    try:
        fitted = fit_sizes(images, factor=factor, limits=limits, max_tiles=limit)
    except ValueError:
        assert extra < 20 * len(images)  # a thin image needs more than four tokens to keep its ratio
        return
    assert sum(h * w for h, w in fitted) // 784 <= limit
    for height, width in fitted:
        assert height * width >= low
        assert max(height, width) > 200 * min(height, width) or theirs(height, width, factor, low, high) == (
            height,
            width,
        )
    free = fit_sizes(images, factor=factor, limits=limits)
    if sum(h * w for h, w in free) // 784 > limit:  # capped: whatever a larger common cap gives does not fit
        used = max(h * w for h, w in fitted)
        larger = fit_sizes(images, factor=factor, limits=[(low, min(high, 2 * used + 8 * 784))] * len(images))
        assert sum(h * w for h, w in larger) // 784 > limit


def test_the_common_cap_is_the_largest_that_fits():
    for limit in range(60):
        expected = max((cap for cap in range(1, 41) if cap // 3 + cap // 2 <= limit), default=None)
        assert common_cap(lambda cap: cap // 3 + cap // 2, low=1, high=40, limit=limit) == expected


def test_large_images_give_way_and_small_ones_stay():
    images = [(1080, 1920), (112, 112), (2000, 3000)]
    limits = [(4 * 784, 1280 * 784)] * 3
    free = fit_sizes(images, factor=28, limits=limits)
    capped = fit_sizes(images, factor=28, limits=limits, max_tiles=600)
    assert capped[1] == free[1] == (112, 112)
    assert sum(h * w for h, w in capped) // 784 <= 600
    assert sum(h * w for h, w in capped) // 784 > 540


def test_too_many_images_for_the_cap_are_an_error_with_both_numbers():
    spec = VisionSpec.from_processor(Qwen2VLImageProcessorPil())
    with pytest.raises(
        ImageError,
        match="^the images of this prompt: expected at most 10 image tokens in the prompt, got 16 for 4 images",
    ) as caught:
        spec.targets([(500, 500)] * 4, budget=Budget(max_prompt_image_tokens=10))
    assert caught.value.kind == "budget"


def test_limits_go_image_then_run_then_processor():
    spec = VisionSpec.from_processor(Qwen2VLImageProcessorPil())
    image = ImageSource(ref=b"x", max_pixels=20 * 784)
    plan = spec.targets([(1000, 1000)] * 2, images=[image, ImageSource(ref=b"y")], budget=Budget(max_pixels=100 * 784))
    assert plan.tokens == (16, 100)
    assert spec.targets([(1000, 1000)]).sizes == (theirs(1000, 1000, 28, 56 * 56, 28 * 28 * 1280),)
    low = spec.targets([(30, 30)], budget=Budget(min_pixels=100 * 784))
    assert low.tokens == (100,)
    lower = ImageSource(ref="a.png", min_pixels=200 * 784)
    with pytest.raises(
        ImageError, match=r"image a.png: expected min_pixels of at most 78400 .*, got 156800; give the im"
    ):
        spec.targets([(30, 30)], images=[lower], budget=Budget(max_pixels=100 * 784))


def test_a_size_that_a_row_asks_for_counts_instead_of_the_files():
    spec = VisionSpec.from_processor(Qwen2VLImageProcessorPil())
    asked = ImageSource(ref=b"x", resized=(56, 280))
    plan = spec.targets([(1000, 1000)] * 2, images=[asked, ImageSource(ref=b"y")], budget=Budget(max_pixels=100 * 784))
    assert plan.sizes == ((56, 280), (280, 280))
    small = ImageSource(ref=b"x", resized=(56, 280), max_pixels=10 * 784)
    (size,) = spec.targets([(1000, 1000)], images=[small]).sizes
    assert size[0] * size[1] <= 10 * 784
    thin = ImageSource(ref="thin.png", resized=(3, 900))
    with pytest.raises(ImageError, match="aspect ratio of at most 200, got 900x3"):
        spec.targets([(1000, 1000)], images=[thin])


def test_a_thin_image_names_itself():
    spec = VisionSpec.from_processor(Qwen2VLImageProcessorPil())
    with pytest.raises(ImageError, match=r"image thin.png: expected an aspect ratio of at most 200, got 603x3 = 201.0"):
        spec.targets([(3, 603)], images=[ImageSource(ref="thin.png")])


def test_planned_tokens_are_the_real_grid():
    processor = Qwen2VLImageProcessorPil(patch_size=16, merge_size=2)
    spec = VisionSpec.from_processor(processor)
    assert spec.factor == 32
    from PIL import Image

    for width, height in ((640, 480), (31, 77), (1000, 90)):
        grid = processor(images=[Image.new("RGB", (width, height))], return_tensors="pt")["image_grid_thw"]
        assert spec.targets([(height, width)]).tokens == (grid.prod().item() // 4,)


def test_a_processor_with_tiles_is_asked_for_its_counts():
    from transformers import CLIPImageProcessorPil

    spec = VisionSpec.from_processor(CLIPImageProcessorPil())
    assert spec.factor is None
    with pytest.raises(ValueError, match="expected a processor that resizes freely"):
        spec.targets([(10, 10)], budget=Budget(max_pixels=100))
    for own in ({"max_pixels": 4000}, {"min_pixels": 1}, {"resized": (56, 56)}):
        with pytest.raises(ImageError, match="without pixel limits of its own for a processor with tiles"):
            spec.targets([(10, 10)], images=[ImageSource(ref=b"x", **own)])


def test_rows_of_tiles_count_against_a_prompts_limit():
    """SmolVLM's processor has no method that says how many tokens an image takes; the parser knows its tiles."""
    images = SmolVLMImageProcessorPil(size={"longest_edge": 112}, max_image_size={"longest_edge": 28})
    parts = {
        "image_token": "<image>",
        "fake_image_token": "<fake>",
        "global_image_token": "<global>",
        "image_seq_len": 3,
    }
    smolvlm = type("SmolVLMProcessor", (), {**parts, "image_processor": images})()
    vision = VisionSpec.from_processor(smolvlm)
    plan = vision.targets([(112, 56), (28, 28)], budget=Budget(max_prompt_image_tokens=200))
    assert plan.tokens[0] == 3 * (4 * 2 + 1)
    assert plan.sizes == (None, None)
    total = sum(plan.tokens)
    with pytest.raises(ImageError, match=f"at most {total - 1} image tokens in the prompt, got {total}"):
        vision.targets([(112, 56), (28, 28)], budget=Budget(max_prompt_image_tokens=total - 1))

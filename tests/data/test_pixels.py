"""Pixels equal the model's own image processor: exactly where that is torchvision's, nearly where it is Pillow's."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from triptych_data import ImageError, ImageSource, VisionSpec, load_image, load_thumbnail
from triptych_data.pixels import fast_decoder, load_pixels
from triptych_data.resize import resize

SIZES = ((640, 480), (1920, 1080), (720, 1600), (57, 31), (28, 28), (1001, 37), (84, 56))


def resized(picture: Image.Image, processor) -> Image.Image:
    """The picture at the size that the processor would give it, as the image loader resizes it."""
    plan = VisionSpec.from_processor(processor).targets([(picture.height, picture.width)])
    return Image.fromarray(resize(np.asarray(picture), plan.sizes[0]))


@pytest.mark.slow_except("(640, 480)-*", "(57, 31)-*", "(1001, 37)-*", "(28, 28)-*")
@pytest.mark.parametrize(("patch", "merge"), [(14, 2), (16, 2), (14, 1)])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_pixel_values_equal_the_torchvision_processor_exactly(size, patch, merge, draw):
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

    processor = Qwen2VLImageProcessor(patch_size=patch, merge_size=merge)
    picture = draw(*size)
    expected = processor(images=[picture], return_tensors="pt")
    found = processor(images=[resized(picture, processor)], do_resize=False, return_tensors="pt")
    assert torch.equal(found["image_grid_thw"], expected["image_grid_thw"])
    assert torch.equal(found["pixel_values"], expected["pixel_values"])


@pytest.mark.slow_except("(640, 480)", "(57, 31)", "(1001, 37)")
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_pixel_values_are_near_the_pillow_processor(size, draw):
    processor = Qwen2VLImageProcessorPil()
    picture = draw(*size)
    expected = processor(images=[picture], return_tensors="pt")
    found = processor(images=[resized(picture, processor)], do_resize=False, return_tensors="pt")
    assert torch.equal(found["image_grid_thw"], expected["image_grid_thw"])
    # One level is 1/255/std = 0.015; Pillow rounds between its two passes, in an order that differs by release.
    levels = (found["pixel_values"] - expected["pixel_values"]).abs() * 255 * 0.2613
    assert levels.mean().item() < 0.6
    assert levels.max().item() < 24


def test_the_resize_kernel_has_not_changed():
    """Golden: another digest means that training would see other pixels than before."""
    y, x = np.mgrid[0:333, 0:517]
    pixels = np.stack([(x * 7 + y * 3) % 256, (x * y) % 256, (x // 5 * 40) % 256], axis=-1).astype(np.uint8)
    digests = [hashlib.md5(resize(pixels, size).tobytes()).hexdigest() for size in ((252, 392), (56, 700))]
    assert digests == GOLDEN


GOLDEN = ["a7bbe29c3d17921473e1e21e6fed7305", "52593a52b072499179261322916c6e8c"]


def test_resize_gives_the_same_bits_for_any_layout_and_number_of_threads(draw):
    pixels = np.asarray(draw(640, 480))
    expected = resize(pixels, (252, 336))
    assert np.array_equal(resize(np.asfortranarray(pixels), (252, 336)), expected)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            assert np.array_equal(resize(pixels, (252, 336)), expected)
    finally:
        torch.set_num_threads(before)


def test_an_image_of_the_right_size_is_not_touched(draw):
    pixels = np.asarray(draw(56, 28))
    assert resize(pixels, (28, 56)) is pixels


@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"subsampling": 0}, {"subsampling": 1}, {"subsampling": 2}, {"quality": 30}],
    ids=str,
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (64, 48), (641, 333)], ids=str)
def test_the_fast_decoder_gives_pillows_pixels(size, mode, options, draw, encode):
    if fast_decoder() is None:
        pytest.skip('the extra "fast" (simplejpeg) is not installed')
    import io

    data = encode(draw(*size).convert(mode), "JPEG", **options)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert np.array_equal(load_pixels(ImageSource(ref=data)), expected)
    assert np.array_equal(np.asarray(load_image(ImageSource(ref=data))), expected)


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_thumbnail_is_the_image_made_small(draw, encode, format):
    picture = draw(640, 960, seed=1)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter
    source = ImageSource(ref=encode(picture, format, exif=exif))
    small, whole = load_thumbnail(source, side_pixels=120), load_image(source)
    assert (whole.size, small.size) == ((960, 640), (120, 80))
    difference = np.abs(np.asarray(small, int) - np.asarray(whole.resize((120, 80), Image.Resampling.BICUBIC), int))
    assert difference.mean() < 3
    assert load_thumbnail(source, side_pixels=2000).size == whole.size


def test_a_cut_jpeg_has_no_thumbnail(draw, encode):
    data = encode(draw(640, 960), "JPEG")
    with pytest.raises(ImageError, match="truncated"):
        load_thumbnail(ImageSource(ref=data[: len(data) // 2]), side_pixels=100)

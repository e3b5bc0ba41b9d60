"""Images one by one, as many together as a batch holds, or as the processor returns them: the same features."""

import pytest
import torch
from PIL import Image
from triptych_trainer.forward import encode_images
from triptych_trainer.models.families import family_of
from triptych_trainer.models.image_processor import image_processor_of


def test_images_of_a_batch_do_not_change_each_others_features(kit):
    model = kit.model().eval()
    images = kit.prompts.batch.images
    with torch.no_grad():
        together = encode_images(model, images)
        alone = [encode_images(model, [image]) for image in images]
    assert together.counts == tuple(features.counts[0] for features in alone)
    torch.testing.assert_close(together.rows, torch.cat([features.rows for features in alone]), rtol=1e-4, atol=1e-4)
    for layer, rows in enumerate(together.deepstack):
        torch.testing.assert_close(rows, torch.cat([one.deepstack[layer] for one in alone]), rtol=1e-4, atol=1e-4)


def test_rows_that_a_family_knows_beforehand_are_the_towers(kit):
    model = kit.model()
    family = family_of(model)
    inner = family.vision_language_model(model)
    with torch.no_grad():
        counts = family.encode(inner, kit.prompts.batch.images).counts
    for image, rows in zip(kit.prompts.batch.images, counts, strict=True):
        assert family.num_rows(inner, image) in (None, rows)


@pytest.mark.parametrize("name", ["qwen3_vl", "internvl", "llava_onevision", "gemma3", "gemma4"])
def test_the_processors_own_output_for_one_image_is_taken_as_it_is(kits, kit_of, name):
    kit = kit_of(name)
    model = kit.model().eval()
    shown = kits.pictures(3)
    process = image_processor_of(kit.processor)
    raw = [dict(process(images=[picture], return_tensors="pt")) for picture in shown]
    own = [family_of(model).preprocess(process, [picture])[0] for picture in shown]
    with torch.no_grad():
        got, expected = encode_images(model, raw), encode_images(model, own)
    assert got.counts == expected.counts
    torch.testing.assert_close(got.rows, expected.rows, rtol=1e-4, atol=1e-4)


def test_options_of_the_whole_processor_reach_its_image_processor(kit_of):
    processor = kit_of("gemma3").processor
    if not hasattr(processor, "images_kwargs"):
        pytest.skip("before transformers 5.23 these options belong to the class")
    wide = Image.new("RGB", (64, 16))
    assert image_processor_of(processor)(images=[wide], return_tensors="pt")["pixel_values"].shape[0] == 1
    processor.images_kwargs = {**processor.images_kwargs, "do_pan_and_scan": True, "pan_and_scan_min_crop_size": 8}
    try:
        crops = image_processor_of(processor)(images=[wide], return_tensors="pt")["pixel_values"].shape[0]
    finally:
        del processor.images_kwargs
    assert crops > 1

"""Every family's real image processor: a prompt's images, one by one, give the features the stock pipeline gives."""

import inspect

import numpy as np
import pytest
import torch
import transformers as hf
from PIL import Image
from triptych_trainer.forward import encode_images, unwrap
from triptych_trainer.models.families import family_of

PATCHES = {
    "patch_size": 2,
    "merge_size": 2,
    "temporal_patch_size": 2,
    "size": {"shortest_edge": 64, "longest_edge": 256},
}
SQUARE = {"size": {"height": 16, "width": 16}}
PROCESSORS = {
    "qwen3_vl": ("Qwen2VLImageProcessor", PATCHES),
    "qwen3_5": ("Qwen2VLImageProcessor", PATCHES),
    "glm4v": ("Glm4vImageProcessor", PATCHES),
    "internvl": ("GotOcr2ImageProcessor", {**SQUARE, "crop_to_patches": True, "min_patches": 1, "max_patches": 3}),
    "llava": ("CLIPImageProcessor", {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}),
    "llava_pixtral": ("PixtralImageProcessor", {"size": {"longest_edge": 32}, "patch_size": {"height": 4, "width": 4}}),
    "mistral3": ("PixtralImageProcessor", {"size": {"longest_edge": 32}, "patch_size": {"height": 8, "width": 8}}),
    "llava_onevision": (
        "LlavaOnevisionImageProcessor",
        {**SQUARE, "image_grid_pinpoints": [[16, 32], [32, 16], [32, 32]]},
    ),
    "gemma3": ("Gemma3ImageProcessor", SQUARE),
    "smolvlm": ("SmolVLMImageProcessor", {"size": {"longest_edge": 32}, "max_image_size": {"longest_edge": 16}}),
}


def pictures(count):
    noise = np.random.default_rng(0)
    sizes = [(40, 30), (16, 16), (33, 70)][:count]
    return [Image.fromarray(noise.integers(0, 255, (*size, 3), dtype=np.uint8)) for size in sizes]


@torch.no_grad()
def stock_rows(model, processor, images):
    """Feature rows of a prompt's images by the processor's and the model's own path, all images together."""
    outputs = processor(images=[images], return_tensors="pt")
    inner = unwrap(model).model
    accepted = {*inspect.signature(inner.get_image_features).parameters, "image_sizes"}  # unnamed by LLaVA below 5.18
    inputs = {name: outputs[name] for name in outputs if name in accepted}
    pooled = inner.get_image_features(**inputs, return_dict=True).pooler_output
    return torch.cat([part.reshape(-1, part.shape[-1]) for part in pooled])


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", PROCESSORS)
def test_features_equal_the_stock_pipelines(lab, zoo, name, count):
    model = zoo.build_model(name, lab).eval()
    class_name, arguments = PROCESSORS[name]
    processor = getattr(hf, class_name)(**arguments)
    images = pictures(count)
    inputs = family_of(model).preprocess(processor, images)
    assert len(inputs) == count
    with torch.no_grad():
        features = encode_images(model, inputs)
    assert len(features.counts) == count
    expected = stock_rows(model, processor, images)
    torch.testing.assert_close(features.rows, expected, rtol=1e-5, atol=1e-5)
    family = family_of(model)
    for image, rows in zip(inputs, features.counts, strict=True):
        assert family.num_rows(model.model, image) in (None, rows)


@pytest.mark.parametrize("name", PROCESSORS)
def test_the_processors_own_output_for_one_image_is_taken_as_it_is(lab, zoo, name):
    model = zoo.build_model(name, lab).eval()
    class_name, arguments = PROCESSORS[name]
    processor = getattr(hf, class_name)(**arguments)
    raw = [dict(processor(images=[picture], return_tensors="pt")) for picture in pictures(3)]
    with torch.no_grad():
        features = encode_images(model, raw)
        alone = [stock_rows(model, processor, [picture]) for picture in pictures(3)]
    assert features.counts == tuple(len(rows) for rows in alone)
    torch.testing.assert_close(features.rows, torch.cat(alone), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", PROCESSORS)
def test_the_dummy_image_goes_through_the_tower(lab, zoo, name):
    model = zoo.build_model(name, lab)
    family = family_of(model)
    features = encode_images(model, [family.dummy_image(model.model)])
    assert len(features.counts) == 1
    assert features.counts[0] <= 20
    assert torch.isfinite(features.rows).all()
    features.rows.sum().backward()
    assert any(p.grad is not None for p in family.vision_parameters(model.model))


# The processors of the other families join the images of a prompt in another shape; `preprocess` covers them.
@pytest.mark.parametrize("name", ["qwen3_vl", "qwen3_5", "glm4v", "internvl", "llava", "gemma3"])
def test_splitting_joint_inputs_gives_the_images_back(lab, zoo, name):
    family = family_of(zoo.build_model(name, lab))
    images = zoo.build_batch(name, images=(2,), lengths=((1,),)).images
    joint = family.collate_images(images)
    if name == "internvl":
        joint["num_patches"] = torch.tensor([image["pixel_values"].shape[0] for image in images])
    for got, want in zip(family.split_images(joint, num_images=2), images, strict=True):
        assert torch.equal(got["pixel_values"], want["pixel_values"])


@pytest.mark.parametrize(
    ("name", "inputs", "message"),
    [
        (
            "gemma3",
            {"pixel_values": torch.zeros(3, 3, 16, 16)},
            r"pixel_values: expected first dimension 2 .*got \(3, 3",
        ),
        ("internvl", {"pixel_values": torch.zeros(3, 3, 16, 16)}, r"tiles of 2 images, got num_patches \[1, 1\] for 3"),
        (
            "qwen3_vl",
            {"pixel_values": torch.zeros(4, 24), "image_grid_thw": torch.tensor([[1, 2, 2]])},
            "expected 2 images, got 1",
        ),
    ],
)
def test_splitting_the_wrong_number_of_images_is_refused(lab, zoo, name, inputs, message):
    with pytest.raises(ValueError, match=message):
        family_of(zoo.build_model(name, lab)).split_images(inputs, num_images=2)

"""The tiny models can see what the other tests compare: each thing put wrong on purpose moves the values by far."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from PIL import ImageOps
from triptych_trainer.forward import encode_images, shared_logps
from triptych_trainer.models.families import Family, family_of
from triptych_trainer.models.image_processor import image_processor_of

SEEN = 1e-3
"""A hundred times the tolerance of the comparisons."""


@torch.no_grad()
def difference(model, batch, expected, **arguments):
    """Largest difference of a log-probability among the prompts with images."""
    got, _ = shared_logps(model, batch, **arguments)
    return float((got - expected).abs().max())


@pytest.mark.slow_except("qwen2_5_vl", "gemma3")
@torch.no_grad()
def test_every_fault_is_seen(kits, kit, monkeypatch):
    model, batch = kit.model().eval(), kit.prompts.batch
    family = family_of(model)
    expected, _ = shared_logps(model, batch)
    assert difference(model, batch, expected) == 0

    features = encode_images(model, batch.images)
    rows = features.rows.split(list(features.counts))
    assert all(float(part.abs().max()) > 1e-2 for part in rows), "an image gives no features"
    for one, other in pairwise(rows):
        length = min(len(one), len(other))
        assert float((one[:length] - other[:length]).abs().max()) > SEEN, "two images give the same features"

    shown = [ImageOps.invert(picture) for picture in kits.pictures(2)]  # the first prompt's, which holds two
    changed = family.preprocess(image_processor_of(kit.processor), shown)
    for images in ([changed[0], *batch.images[1:]], [batch.images[0], changed[1], *batch.images[2:]]):
        other = encode_images(model, images)
        assert difference(model, batch, expected, features=other) > SEEN, "another image changes nothing"
    wrong = replace(features, rows=features.rows.flip(0))
    assert difference(model, batch, expected, features=wrong) > SEEN, "rows in another order change nothing"

    if features.deepstack:
        nothing = tuple(torch.zeros_like(layer) for layer in features.deepstack)
        without = replace(features, deepstack=nothing)
        assert difference(model, batch, expected, features=without) > SEEN, "deepstack rows change nothing"

    with monkeypatch.context() as patched:
        right = type(family).positions

        def shifted(self, *args, **kwargs):
            positions, following = right(self, *args, **kwargs)
            return positions, following + 1

        patched.setattr(type(family), "positions", shifted)
        assert difference(model, batch, expected) > SEEN, "completions one position further on change nothing"


@pytest.mark.parametrize("name", ["gemma3", "gemma4", "gemma4_unified"])
@torch.no_grad()
def test_images_read_in_order_only_are_seen(kit_of, monkeypatch, name):
    kit = kit_of(name)
    model, batch = kit.model().eval(), kit.prompts.batch
    expected, _ = shared_logps(model, batch)
    monkeypatch.setattr(type(family_of(model)), "image_attention", Family.image_attention)
    assert difference(model, batch, expected) > SEEN

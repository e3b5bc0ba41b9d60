"""What a kept row is recognised by: its tokens and the keys of its images, and nothing else."""

import pytest
import torch
from transformers import DynamicCache
from triptych_parser import ImageSpan
from triptych_trainer.forward.batch import GroupBatch
from triptych_trainer.forward.turn_cache import TurnCache

IDS = (1, 7, 7, 2)


def batch_of(keys, *, ids=IDS):
    span = ImageSpan(start=1, length=2, image=0, runs=((1, 2),))
    return GroupBatch.build([ids], spans=[[span]], images=[{"pixel_values": torch.zeros(2, 3)}], image_keys=keys)


@pytest.mark.parametrize(
    ("before", "after", "known"),
    [(["a"], ["a"], 4), (["a"], ["b"], 0), ((), (), 0)],
    ids=["the same image", "another image of the same size", "images that nobody can tell apart"],
)
def test_a_row_goes_on_only_with_its_own_images(before, after, known):
    turns = TurnCache()
    mask_BT = torch.ones(1, len(IDS))
    turns.keep(DynamicCache(), batch_of(before), mask_BT=mask_BT, group_sizes=[1], sampled=[[5]])
    _, extension = turns.take(batch_of(after, ids=(*IDS, 5, 6)))
    assert extension.known == (known,)
    assert turns.rows_prefilled_again == (known == 0)

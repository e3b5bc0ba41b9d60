"""Every image in its place: the plan of one call, and every way in which places and feature rows can disagree."""

import dataclasses

import pytest
import torch
from triptych_parser import ImageSpan
from triptych_trainer.forward import GroupBatch, encode_images, plain_logps, shared_logps
from triptych_trainer.forward.batch import BatchError
from triptych_trainer.forward.merge import build_plan, check_counts, image_places

PIXELS = {"pixel_values": torch.zeros(1, 3)}


def batch_of_two_prompts(*, last_tokens=2):
    """Prompt 0 shows image 1 in two runs; prompt 1 shows image 0, and image 1 again."""
    first = [ImageSpan(start=1, length=4, image=0, runs=((1, 1), (3, 1)))]
    second = [
        ImageSpan(start=0, length=3, image=1, runs=((0, 3),)),
        ImageSpan(start=4, length=last_tokens, image=0, runs=((4, last_tokens),)),
    ]
    return GroupBatch.build([[9] * 6, [9] * 8], spans=[first, second], image_indices=[[1], [1, 0]], images=[PIXELS] * 2)


def test_the_plan_of_packed_prompts():
    places = image_places(batch_of_two_prompts(), starts=[(0, 0, 0), (1, 0, 7)])
    plan = build_plan(places, shape=(1, 16), num_images=2)
    t = -1
    assert plan.src.tolist() == [[t, 3, t, 4, t, t, t, 0, 1, 2, t, 3, 4, t, t, t]]
    assert plan.num_features == 5


def test_rows_that_repeat_a_prompt_share_its_feature_rows():
    places = image_places(batch_of_two_prompts(), starts=[(1, 0, 0), (1, 1, 1), (0, 2, 3)])
    plan = build_plan(places, shape=(3, 9), num_images=2)
    t = -1
    assert plan.src.tolist() == [
        [0, 1, 2, t, 3, 4, t, t, t],
        [t, 0, 1, 2, t, 3, 4, t, t],
        [t, t, t, t, 3, t, 4, t, t],
    ]


def test_one_image_with_two_sizes_is_named():
    places = image_places(batch_of_two_prompts(last_tokens=3), starts=[(0, 0, 0), (1, 1, 0)])
    with pytest.raises(BatchError, match=r"row 1, prompt 1, image marker 2: 3 .*, .*2 feature"):
        build_plan(places, shape=(2, 8), num_images=2)


def test_an_image_without_a_place_is_refused():
    with pytest.raises(BatchError, match="image 2 of the batch has no placeholder tokens in any prompt; .*3 images"):
        build_plan(image_places(batch_of_two_prompts(), starts=[(0, 0, 0), (1, 0, 6)]), shape=(1, 14), num_images=3)


def test_counts_are_compared_where_they_are_known():
    places = image_places(batch_of_two_prompts(), starts=[(0, 0, 0), (1, 1, 0)])
    check_counts(places, [None, 2])
    check_counts(places, [3, None])
    with pytest.raises(
        BatchError, match="prompt 1, image marker 1: 3 placeholder tokens but image 0 of the batch has 4 feature rows"
    ):
        check_counts(places, [4, 2])


@pytest.mark.parametrize("logps", [shared_logps, plain_logps], ids=["shared", "plain"])
def test_features_that_match_in_total_only_are_refused(lab, logps):
    """The tower's rows are cut between the images at another row: a check of the total passes, and an image slides."""
    batch = lab.qwen_batch(lab.Recipe(images=(2,), completions=((2, 3),)))
    model = lab.qwen2_5_vl()
    features = encode_images(model, batch.images)
    assert features.counts == (4, 3)
    with pytest.raises(
        BatchError, match="prompt 0, image marker 1: 4 placeholder tokens but image 0 of the batch has 3 feature rows"
    ):
        logps(model, batch, features=dataclasses.replace(features, counts=(3, 4)))

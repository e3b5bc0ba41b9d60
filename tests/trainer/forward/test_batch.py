"""Group batches: what they refuse, and by which words; selecting prompts and images."""

import pytest
import torch
from triptych_parser import ImageSpan
from triptych_trainer.forward import CompletionImage, GroupBatch, shared_logps
from triptych_trainer.forward.batch import BatchError

PIXELS = {"pixel_values": torch.zeros(16, 24), "image_grid_thw": torch.tensor([[1, 4, 4]])}


def span(start, length, image=0):
    return ImageSpan(start=start, length=length, image=image, runs=((start, length),))


def test_images_are_taken_in_order_when_no_indices_are_given():
    batch = GroupBatch.build(
        [[1] * 10, [2] * 10, [3] * 10],
        spans=[[span(1, 2, 1), span(4, 2, 0)], [], [span(0, 3)]],
        images=[PIXELS] * 3,
    )
    assert batch.image_indices == ((0, 1), (), (2,))
    assert batch.group_sizes == (0, 0, 0)
    assert [image is PIXELS for image in batch.images_of(0)] == [True, True]


def test_selecting_prompts_keeps_their_images_and_their_order():
    images = [{"pixel_values": torch.full((1, 1), float(i))} for i in range(4)]
    batch = GroupBatch.build(
        [[1] * 9] * 3,
        spans=[[span(1, 1, 0)], [span(1, 1, 0), span(3, 1, 1)], [span(1, 1, 0)]],
        image_indices=[[3], [0, 2], [0]],
        images=images,
        completions=[[[1]], [[2], [3]], [[4]]],
    )
    part, kept = batch.select([2, 0])
    assert kept == (0, 3)
    assert part.image_indices == ((0,), (1,))
    assert part.completions == (((4,),), ((1,),))
    assert [float(image["pixel_values"]) for image in part.images] == [0.0, 3.0]


ARRIVED = {
    "prompts": [[5]],
    "completions": [[[1, 9, 9, 2]]],
    "trained": [[[True, False, False, True]]],
    "images": [PIXELS],
    "completion_images": [[[CompletionImage(image=0, span=span(1, 2), name="turn 1, image 1 of `zoom`")]]],
}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompts": [[]]}, "prompt 0 is empty"),
        ({"prompts": [[1], [2]], "completions": [[[1]]]}, r"completions: expected one entry per prompt \(2\), got 1"),
        (
            {"prompts": [[1, 2]], "spans": [[span(0, 1)]], "image_indices": [[1]], "images": [PIXELS]},
            "prompt 0, image marker 1: image_indices points at 1, but the batch has 1 images",
        ),
        (
            {"prompts": [[1, 2]], "spans": [[span(0, 1, 2)]], "image_indices": [[0]], "images": [PIXELS]},
            r"prompt 0, image marker 1: refers to image 2 of 1",
        ),
        (
            {"prompts": [[1] * 5], "spans": [[span(3, 4)]], "images": [PIXELS]},
            r"image marker 1: placeholder run 3\.\.7 does not fit after token 0 of a prompt of 5 tokens",
        ),
        (
            {"prompts": [[1] * 9], "spans": [[span(2, 3), span(4, 2, 1)]], "images": [PIXELS] * 2},
            r"image marker 2: placeholder run 4\.\.6 does not fit after token 5",
        ),
        (
            {"prompts": [[1] * 5], "spans": [[span(1, 4)]], "images": [PIXELS]},
            r"prompt 0: its last token \(4\) is an image placeholder",
        ),
        ({**ARRIVED, "trained": [[[True]]]}, r"prompt 0, completion 1: expected one mark per token \(4\), got 1"),
        (
            {**ARRIVED, "images": []},
            "prompt 0, turn 1, image 1 of `zoom`: refers to image 0, but the batch has 0 images",
        ),
        ({**ARRIVED, "trained": None}, "image 1 of `zoom`: its placeholders were not sampled, and cannot be scored"),
        (
            {**ARRIVED, "completions": [[[1, 9, 9]]], "trained": [[[True, False, False]]]},
            r"prompt 0, completion 1: its last token \(2\) is an image placeholder; leave out what follows",
        ),
        (
            {**ARRIVED, "completions": [[[1, 9]]], "trained": [[[True, False]]]},
            r"image 1 of `zoom`: placeholder run 1\.\.3 does not fit after token 0 of a completion of 2 tokens",
        ),
        ({**ARRIVED, "image_keys": ["a", "b"]}, r"image_keys: expected one per image \(1\), got 2"),
    ],
)
def test_refuses_parts_that_do_not_fit(arguments, message):
    with pytest.raises(BatchError, match=message):
        GroupBatch.build(
            arguments["prompts"], **{name: value for name, value in arguments.items() if name != "prompts"}
        )


def test_an_image_with_another_number_of_rows_is_named(lab):
    model = lab.qwen2_5_vl()
    batch = lab.qwen_batch(lab.Recipe(images=(1, 2), completions=((2,), (2,))))
    larger = lab.qwen_image(torch.Generator().manual_seed(0), height=6, width=6)
    wrong = GroupBatch.build(
        batch.prompts, spans=batch.spans, images=[*batch.images[:2], larger], completions=batch.completions
    )
    with pytest.raises(
        BatchError, match="prompt 1, image marker 2: 3 placeholder tokens but image 2 of the batch has 9 feature rows"
    ):
        shared_logps(model, wrong)


def test_a_width_below_the_longest_completion_is_refused(lab):
    batch = lab.qwen_batch(lab.Recipe(images=(0,), completions=((2, 6),)))
    with pytest.raises(BatchError, match=r"width=4 is smaller than the longest completion \(6 tokens\)"):
        shared_logps(lab.qwen2_5_vl(), batch, width=4)

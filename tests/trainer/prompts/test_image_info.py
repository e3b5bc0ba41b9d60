"""What rewards are told of images, and the pixels that they open."""

import numpy as np
import pytest
from made_up import prepared, said, scored
from triptych_data import ImageLoader, load_image, read_examples
from triptych_data.options import PromptOptions
from triptych_trainer.grpo.rewarding import completions_of, reward_columns
from triptych_trainer.models.load import load_processor
from triptych_trainer.prompts.image_info import image_infos
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.rewards import load_reward
from triptych_trainer.rollouts.rollout import RolloutGroup
from triptych_trainer.rollouts.write import RolloutWriter

LIMITS = PromptOptions(max_pixels=28 * 28 * 2)


@pytest.fixture
def preparer(model_dir):
    with ImageLoader(threads=1) as loader:
        yield PromptPreparer(load_processor(str(model_dir), max_pixels=LIMITS.max_pixels), loader=loader)


def test_images_open_as_the_model_saw_them_and_in_the_size_of_the_file(preparer, write_rows):
    example = read_examples(write_rows([2]))[0]
    prompt = preparer(example)
    decodes, infos = preparer.loader.decodes, image_infos(prompt)
    for info in infos:
        info.open()
    assert preparer.loader.decodes == decodes, "the run's own cache is used"
    for info, source in zip(infos, example.images, strict=True):
        seen, whole, file = info.open(), info.open("source"), load_image(source)
        assert seen.size == (info.width, info.height)
        assert whole.size == file.size == (info.source_width, info.source_height)
        assert np.array_equal(np.asarray(whole), np.asarray(file))
        assert np.asarray(seen).mean(axis=(0, 1)) == pytest.approx(np.asarray(file).mean(axis=(0, 1)), abs=3)
        whole.putpixel((0, 0), (1, 2, 3))
        assert info.open("source").getpixel((0, 0)) != (1, 2, 3), "a reward may draw on its copy"
    assert preparer.loader.decodes == decodes, "as decoded is what the run keeps where the processor resizes"


def test_a_prompt_ends_with_what_its_template_wrote(preparer, write_rows):
    assert preparer(read_examples(write_rows([1]))[0]).ending.endswith("assistant\n")


def test_format_counts_the_opening_that_the_chat_template_wrote(preparer, write_rows):
    preparer.processor.chat_template += "{{ '<think>' }}"
    prompt = preparer(read_examples(write_rows([1]))[0])
    group = RolloutGroup(key=0, prompt=prompt, rollouts=(said("red</think><answer>red</answer>"), said("red")))
    (columns,) = reward_columns([{}], [group])
    repeated = {name: [value] * 2 for name, value in columns.items()}
    assert load_reward("format")(completions_of(group), **repeated) == [1.0, 0.0]
    record = RolloutWriter("unused")._record(scored(prompt, ["red"], rewards={}), step=0, mode="train")
    assert record.opened == "<think>"


def test_a_prompt_made_by_hand_has_nothing_to_open(write_rows):
    (info,) = image_infos(prepared(read_examples(write_rows([1]))[0]))
    with pytest.raises(ValueError, match="image 1 has no pixels here"):
        info.open()

"""A `rollout_func` with every family: the images of a completion are found where its processor wrote them."""

from dataclasses import replace

import pytest
import torch
from triptych_data import Example, ImageLoader, ImageSource
from triptych_data.prompt_settings import PromptSettings
from triptych_parser import bind, parse
from triptych_trainer.errors import UsageError
from triptych_trainer.forward import plain_logps, shared_logps
from triptych_trainer.grpo.groups import group_batch
from triptych_trainer.grpo.trl.own_rollouts import slots_of
from triptych_trainer.models.families import family_of
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.rollouts.rollout import RolloutGroup
from triptych_trainer.rollouts.sampled import Sampler
from triptych_trainer.trajectories.rollout_function import RolloutFunction

SAID = [5, 6, 7]
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")  # GLM's


def made_of(kit, pictures, *, loader):
    """A function that appends two turns with an image each, and what plays it."""
    family, processor = family_of(kit.stock), kit.processor
    settings = PromptSettings(chat_template_images="inline")
    preparer = PromptPreparer(processor, loader=loader, family=family, settings=settings)
    example = Example(
        id="a",
        prompt=bind(parse("See <image> . Which ?"), 1),
        images=(ImageSource(ref=pictures[0]),),
        answer="red",
        extras={},
        source="rows:1",
    )
    prompt = preparer(example)

    def appended(picture):
        message = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "t"}]}
        text = processor.apply_chat_template([message], tokenize=False, add_generation_prompt=True)
        text = text.replace("<|media_pad|>", "<|media_pad|><|media_end|>")  # Kimi's own template writes both
        return processor(text=[text], images=[[picture]], return_tensors="pt")["input_ids"][0].tolist()

    def call(prompts):
        turns = [appended(picture) for picture in pictures[1:]]
        ids, mask = list(SAID), [1] * len(SAID)
        for turn in turns:
            ids, mask = [*ids, *turn, *SAID], [*mask, *[0] * len(turn), *[1] * len(SAID)]
        return {
            "prompt_ids": [prompt.ids] * 2,
            "completion_ids": [ids, SAID],
            "logprobs": None,
            "env_mask": [mask, [1] * len(SAID)],
            "images": [pictures[1:], None],
        }

    play = RolloutFunction(
        call=call,
        prompt_of=lambda group: "",
        preparer=preparer,
        num_rows=lambda image: family.num_rows(family.vision_language_model(kit.stock), image),
        num_tokens=kit.stock.config.get_text_config().vocab_size,
        slot_ids=slots_of(kit.stock),
        no_later_images=family.no_later_images,
    )
    return play, RolloutGroup(key=0, prompt=prompt)


@pytest.mark.slow_except("gemma3", "internvl", "qwen3_vl")
def test_images_are_found_where_the_processor_wrote_them(kits, kit, family_name):
    if family_of(kit.stock).no_later_images is not None:
        return  # refused, as `test_rollout_func.py` shows
    pictures = kits.pictures(3)
    with ImageLoader(threads=1) as loader:
        play, group = made_of(kit, pictures, loader=loader)
        sampler = Sampler(sample=lambda *_: [], read=lambda *_: [{"role": "assistant", "content": "x"}], end_ids={7})
        (played,) = play(sampler, [group], [2])
    first, second = played.rollouts
    assert (len(first.images), len(second.images)) == (2, 0)
    assert [image.turn for image in first.images] == [0, 1]
    placeholders = [k for k, token in enumerate(first.ids) if token in slots_of(kit.stock)]
    spans = [image.span for image in first.images]
    assert placeholders == [k for span in spans for start, length in span.runs for k in range(start, start + length)]
    batch = group_batch([played])
    with torch.no_grad():
        shared, _ = shared_logps(kit.model(), batch)
        plain, _ = plain_logps(kit.model(), batch)
    assert (shared != 0).sum() == 12
    assert (shared - plain).abs().max() < 1e-5


@pytest.mark.parametrize("name", ["gemma3", "internvl"])
def test_a_placeholder_too_few_is_named_with_its_row(kits, kit_of, name):
    kit = kit_of(name)
    with ImageLoader(threads=1) as loader:
        play, group = made_of(kit, kits.pictures(3), loader=loader)
        whole = play.call([])
        slot = next(k for k, token in enumerate(whole["completion_ids"][0]) if token in slots_of(kit.stock))
        whole["completion_ids"][0].pop(slot)
        whole["env_mask"][0].pop(slot)
        short = replace(play, call=lambda prompts: whole)
        with pytest.raises(
            UsageError, match=r"rows:1: rollout 1, turn 1, image 1 of `rollout_func`: \d+ slots, \d+ fea"
        ):
            short(Sampler(sample=lambda *_: [], read=lambda *_: [], end_ids=set()), [group], [2])

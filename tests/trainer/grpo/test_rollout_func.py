"""A `rollout_func` in which images arrive: TRL's contract, the places of its images, and an exact policy pass."""

import math

import numpy as np
import pytest
import torch
from datasets import Dataset
from PIL import Image
from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.groups import group_batch
from triptych_trainer.grpo.trl.own_rollouts import check_rollout_func
from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer as GRPOTrainer
from triptych_trainer.prompts.run_tables import KEY
from triptych_trainer.trajectories.function_output import read_output
from trl import GRPOConfig

SMALL = {
    "use_cpu": True,
    "bf16": False,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": True,
    "num_generations": 2,
    "per_device_train_batch_size": 4,
    "steps_per_generation": 1,
    "max_steps": 1,
    "max_completion_length": 512,
    "gradient_checkpointing": False,
}
FIRST, LATER = (
    Image.new("RGB", (56, 56), "red"),
    [Image.new("RGB", (28 * k, 56), colour) for k, colour in enumerate(("blue", "green"), start=2)],
)


class Loop:
    """Renders prompts with the trainer's processor; completion k says something, gets k images, and says more."""

    def __init__(self, **changes):
        self.changes = changes
        self.prompts = []

    def __call__(self, prompts, trainer):
        self.prompts, processor = prompts, trainer.processing_class
        tokenizer = processor.tokenizer
        end = tokenizer.convert_tokens_to_ids("<|im_end|>")
        found = {"prompt_ids": [], "completion_ids": [], "logprobs": None, "env_mask": [], "images": [], "told": []}
        for row, prompt in enumerate(prompts):
            rendered = processor.apply_chat_template(
                [prompt], tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
            )
            ids = [*tokenizer("Which")["input_ids"], end]
            mask = [1] * len(ids)
            for picture in LATER[: row % 3]:
                asked = (
                    "\n<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|><|im_end|>\n<|im_start|>assistant\n"
                )
                came = processor(text=[asked], images=[picture], return_tensors="pt")["input_ids"][0].tolist()
                said = [*tokenizer("is red")["input_ids"], end]
                ids += came + said
                mask += [0] * len(came) + [1] * len(said)
            found["prompt_ids"].append(rendered["input_ids"][0].tolist())
            found["completion_ids"].append(ids)
            found["env_mask"].append(mask)
            found["images"].append(LATER[: row % 3] or None)
            found["told"].append(row)
        return {**found, **{name: change(found) for name, change in self.changes.items()}}


def rows(count=2):
    return Dataset.from_dict(
        {
            "prompt": [[{"role": "user", "content": f"Which of {k} is red ?"}] for k in range(count)],
            "images": [[FIRST] * k for k in range(1, count + 1)],
        }
    )


def build(model_dir, tmp_path, loop, *, seen=None, data=None, **options):
    def reward(completions, told=None, **columns):
        if seen is not None:
            seen.update({"completions": completions, "told": told, **columns})
        return [float(k) for k in range(len(completions))]

    return GRPOTrainer(
        model=str(model_dir),
        reward_funcs=reward,
        args=GRPOConfig(output_dir=str(tmp_path / "out"), **{**SMALL, **options}),
        train_dataset=rows() if data is None else data,
        rollout_func=loop,
    )


def stock_logps(model, processor, group, rollout, pictures):
    """The stock forward of one whole trajectory, with all pixels in the order of its placeholders."""
    ids = torch.tensor([[*group.prompt.ids, *rollout.ids]])
    pixels = processor.image_processor(images=pictures, return_tensors="pt")
    kinds = (ids == model.config.image_token_id).int()
    with torch.no_grad():
        logits = model(input_ids=ids, mm_token_type_ids=kinds, **pixels).logits[0, len(group.prompt.ids) - 1 : -1]
    logps = logits.float().log_softmax(-1).gather(-1, torch.tensor(rollout.ids)[:, None])[:, 0]
    return logps * torch.tensor(rollout.trained)


def test_images_that_arrive_in_a_loop_of_the_users_own_are_trained_on_exactly(model_dir, tmp_path):
    seen, loop = {}, Loop()
    trainer = build(model_dir, tmp_path, loop, seen=seen)
    trainer.train()
    shown = [[part["image"].size for part in one[0]["content"] if part["type"] == "image"] for one in loop.prompts]
    assert sorted(map(len, shown)) == [1, 1, 2, 2], "each prompt once for each of its completions"
    assert {size for sizes in shown for size in sizes} == {FIRST.size}
    (batch,) = trainer._buffered_inputs.parts
    assert sorted(len(one.images) for one in batch.rollouts) == [0, 0, 1, 2]
    assert seen["told"] == [0, 1, 2, 3], "what else it returned reaches the rewards"
    assert [len(said) for said in seen["completions"]] == [1] * 4, "a completion is one message, as for TRL"
    scores = trainer.engine.logps(trainer.model, group_batch(batch.groups), keys=batch.keys).logps_BC
    row = 0
    for group in batch.groups:
        for one in group.rollouts:
            pictures = [FIRST] * len(group.prompt.spans) + LATER[: len(one.images)]
            expected = stock_logps(trainer.model, trainer.processing_class, group, one, pictures)
            assert (expected != 0).sum() == one.num_trained > 0
            assert (scores[row, : len(expected)] - expected).abs().max() < 1e-5
            row += 1
    turns = next(one for one in batch.rollouts if len(one.images) == 2).messages
    assert [message["role"] for message in turns] == ["assistant", "tool", "assistant", "tool", "assistant"]
    assert [part["type"] for part in turns[1]["content"]].count("image") == 1


def without_mask(found):
    return None


def cut(found):
    return [ids[:-1] for ids in found["env_mask"]]


def larger(found):
    return [images and [Image.new("RGB", (112, 112))] * len(images) for images in found["images"]]


REFUSED = {
    "a list": ({"prompt_ids": lambda found: found["prompt_ids"][:1]}, r"prompt_ids: expected a list with an entry for"),
    "no images": (
        {"images": without_mask},
        r"train_dataset\[\d\]: rollout 2, turn 1: rollout_func: 4 placeholders of images without an image",
    ),
    "no mask": ({"env_mask": without_mask}, r"rollout 2: rollout_func: token \d+ of the completion is a placeholder"),
    "a short mask": (
        {"env_mask": cut},
        r"\[0\]: rollout 1: rollout_func: env_mask: expected a 1 for each of 3 tokens .*got 2: \[1",
    ),
    "another size": (
        {"images": larger},
        r"rollout 2, turn 1, image 1 of `rollout_func`: 4 slots, 16 features; its tokens are not those of image 1",
    ),
    "one image more": (
        {"images": lambda found: [[*(images or []), FIRST] for images in found["images"]]},
        r"rollout 1: rollout_func: images: got 1 images, but the completion contains the placeholders of 0",
    ),
    "a path": ({"images": lambda found: [["a.png"]] * 4}, r"images: expected a list of PIL images or None, got str"),
    "a prompt without its images": (
        {"prompt_ids": lambda found: [[5, 6, 7]] * 4},
        r"prompt_ids: 0 placeholders do not fit the row's \d images, which take \d",
    ),
    "logprobs": (
        {"logprobs": lambda found: [[0.0]] * 4},
        r"\[0\]: rollout 1: rollout_func: logprobs: expected one number for each",
    ),
    "a probability": (
        {"logprobs": lambda found: [[0.9] * len(ids) for ids in found["completion_ids"]]},
        r"rollout 1: rollout_func: logprobs: .* of at most 0, .* got 0.9 for token \d+ of the completion",
    ),
    "a probability of zero": (
        {"logprobs": lambda found: [[float("-inf")] * len(ids) for ids in found["completion_ids"]]},
        r"rollout 1: rollout_func: logprobs: .* a finite number of at most 0, .* got -inf for token \d+",
    ),
    "no number": (
        {"logprobs": lambda found: [[math.nan] * len(ids) for ids in found["completion_ids"]]},
        r"a finite number of at most 0, or None where it is not known, got nan for token 0",
    ),
    "infinity": (
        {"logprobs": lambda found: [[math.inf] * len(ids) for ids in found["completion_ids"]]},
        r"a finite number of at most 0, .* got inf for token 0",
    ),
    "truths": (
        {"logprobs": lambda found: [[False] * len(ids) for ids in found["completion_ids"]]},
        r"logprobs: expected one number for each of 3 tokens, or None for all completions, got 3: \[False",
    ),
    "truths as ids": (
        {"completion_ids": lambda found: [[True] * len(ids) for ids in found["completion_ids"]]},
        r"completion_ids: expected token ids from 0 to \d+, got True",
    ),
    "ids": (
        {"completion_ids": lambda found: [[10**7]] * 4},
        r"completion_ids: expected token ids from 0 to \d+, got 1",
    ),
    "a name": ({"prompts": lambda found: [1] * 4}, r"under the name prompts reward functions get something else"),
}


@pytest.fixture(scope="module")
def idle(model_dir, tmp_path_factory):
    """A trainer that only asks its function."""
    trainer = build(model_dir, tmp_path_factory.mktemp("idle"), Loop())
    trainer._to_verify = False
    return trainer


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_fit_together_is_refused_with_its_rollout(idle, name):
    changes, expected = REFUSED[name]
    idle.own_rollouts.call = lambda prompts: Loop(**changes)(prompts, idle)
    with pytest.raises(UsageError, match=expected):
        idle._generate_and_score_completions([{KEY: key} for key in (0, 0, 1, 1)])


@pytest.mark.parametrize("wrap", [np.asarray, torch.tensor, lambda values: [np.float32(value) for value in values]])
def test_numbers_of_arrays_are_numbers(wrap):
    columns = {
        "prompt_ids": [wrap([3, 4])],
        "completion_ids": [wrap([5, 6])],
        "logprobs": [wrap([-0.5, -2.0])],
        "env_mask": [wrap([1, 0])],
    }
    for name in ("prompt_ids", "completion_ids"):
        columns[name] = [[np.int64(token) for token in columns[name][0]]]
    (one,) = read_output(columns, names=["row 1"], num_tokens=10, taken=())
    assert (one.prompt_ids, one.ids, one.sampled, one.logps) == ((3, 4), (5, 6), (True, False), (-0.5, 0.0))


def test_a_prompt_with_another_text_is_sampled_behind_and_survives_a_checkpoint(model_dir, tmp_path):
    def longer(found):
        return [[9, *ids] if k == 1 else ids for k, ids in enumerate(found["prompt_ids"])]

    logps = [[-1.0] * 3, None, None, [None] * 3]

    def told(found):
        return [one or [-0.5] * len(ids) for one, ids in zip(logps, found["completion_ids"], strict=True)]

    trainer = build(model_dir, tmp_path, Loop(prompt_ids=longer, logprobs=told), gradient_accumulation_steps=1)
    trainer.train()
    (batch,) = trainer._buffered_inputs.parts
    first = next(group for group in batch.groups if group.has_own_ids)
    assert len(first) == 1
    assert first.prompt.ids[0] == 9
    assert first.prompt.spans[0].start == 1 + trainer.prompt_of(first.key).spans[0].start
    assert any(math.isnan(one.sampling_logps[0]) for one in batch.rollouts)
    state = trainer._buffered_inputs.to_state()
    trainer.restore_cycle_from(state)
    again = trainer._buffered_inputs.parts[0]
    assert [group.prompt.ids for group in again.groups] == [group.prompt.ids for group in batch.groups]
    assert [group.prompt.spans for group in again.groups] == [group.prompt.spans for group in batch.groups]


def test_a_loop_besides_tools_and_what_is_no_function_are_refused():
    with pytest.raises(UsageError, match=r"expected a function of prompts and trainer, got 3"):
        check_rollout_func(3, tools=None, environment_factory=None)
    with pytest.raises(UsageError, match=r"rollout_func and environment_factory: both say how a rollout goes on"):
        check_rollout_func(print, tools=None, environment_factory=object)


def test_plain_text_prompts_stay_texts(model_dir, tmp_path):
    seen = {}

    def loop(prompts, trainer):
        tokenizer = trainer.processing_class.tokenizer
        ids = [tokenizer(prompt)["input_ids"] for prompt in prompts]
        said = [*tokenizer("is red")["input_ids"], tokenizer.eos_token_id]
        return {
            "prompt_ids": ids,
            "completion_ids": [said] * len(prompts),
            "logprobs": None,
            "env_mask": [[1, 0, *[1] * (len(said) - 2)]] * 4,
        }

    trainer = build(model_dir, tmp_path, loop, seen=seen, data=Dataset.from_dict({"prompt": ["red is", "Which is"]}))
    trainer.train()
    assert all(isinstance(said, str) for said in seen["completions"])
    assert trainer.state.log_history[0]["completions/mean_length"] == 3.0, "of 4 tokens one is the environment's"

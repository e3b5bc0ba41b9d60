"""Training with tools and environments: one tower call for each unique image, the policy pass, and what is refused."""

import json

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, LogitsProcessor, LogitsProcessorList
from triptych_trainer.forward import plain_logps
from triptych_trainer.grpo.batch import Cycle
from triptych_trainer.grpo.groups import group_batch
from triptych_trainer.trajectories.images import RolloutImages
from triptych_trainer.trajectories.turn_options import TurnOptions


def call(name, **arguments):
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


def look(image: int, images: RolloutImages) -> list:
    """Look closer.

    Args:
        image: the number of an image.
    """
    return [{"type": "image", "image": images[image].picture.resize((84, 84))}]


class Boxes:
    """Opens boxes."""

    def reset(self, seed: int = 5, **row) -> list:
        self.opened, self.done = [], False
        return [{"type": "image", "image": Image.new("RGB", (28, 28), (seed, 9, 9))}]

    def open(self, box: int) -> list:
        """Open a box.

        Args:
            box: its number.
        """
        self.opened.append(box)
        self.done = len(self.opened) == 2
        return [{"type": "image", "image": Image.new("RGB", (56, 56), (9, 9, 40 * box))}]

    def get_reward(self) -> float:
        return float(sum(self.opened))


class Says(LogitsProcessor):
    """Rules out every token but the next one of a script."""

    def __init__(self, rows):
        self.rows, self.step = rows, 0

    def __call__(self, input_ids, scores):
        said = [self.rows[k % len(self.rows)] for k in range(len(scores))]
        wanted = torch.tensor([row[min(self.step, len(row) - 1)] for row in said])
        self.step += 1
        return torch.full_like(scores, -torch.inf).scatter(1, wanted[:, None], 0.0)


def says(trainer, *turns):
    """Let the rollouts of a trainer say what a script says, turn by turn; the model really writes it."""
    generate, left, tokenizer = trainer.model.generate, iter(turns), trainer._tokenizer

    def scripted(*args, logits_processor, **kwargs):
        rows = [[*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in next(left)]
        return generate(*args, logits_processor=LogitsProcessorList([*logits_processor, Says(rows)]), **kwargs)

    trainer.model.generate = scripted


@pytest.mark.slow
def test_every_unique_image_goes_through_the_tower_once_in_a_step(make_trainer, write_rows, model_dir):
    say = []
    trainer = make_trainer(
        write_rows([1, 2]),
        tools=[look],
        freeze_vision=True,
        per_device_train_batch_size=4,
        max_completion_length=600,
        say=say.append,
    )
    says(trainer, [call("look", image=1), "red"], [call("look", image=1), call("fly")], ["blue", "green"])
    encoded = []
    trainer.model.model.visual.register_forward_pre_hook(
        lambda module, args, kwargs: encoded.append(len(kwargs["grid_thw"])), with_kwargs=True
    )
    trainer._to_verify = False
    batch = trainer._generate_and_score_completions([{"row": key} for key in (0, 0, 1, 1)])["triptych_batch"]
    trainer._compute_loss(trainer.model, {"triptych_batch": batch}).backward()
    unique = group_batch(batch.groups).image_keys
    assert sum(encoded) == len(unique) == trainer.engine.images_encoded
    assert len(unique) == 5, "three images of the prompts, and one closer look at the first of each"
    assert sum(len(rollout.images) for rollout in batch.rollouts) == 3
    assert [rollout.num_failed_calls for rollout in batch.rollouts] == [0, 0, 1, 0]
    assert "row-1, rollout 1, turn 2: fly failed" in say[0]
    logged = {name: values[-1] for name, values in trainer._metrics["eval"].items()}
    assert logged["tools/call_frequency"] == 1.0
    assert logged["tools/failure_frequency"] == 0.25
    assert logged["tools/prefilled_again"] == 0, "keys and values of earlier turns are kept"
    prompts = sum(len(group.prompt.ids) - 1 for group in batch.groups)
    assert logged["tools/prefilled_tokens"] == prompts + sum(one.trained.count(False) for one in batch.rollouts)
    assert trainer.engine.turns.is_empty, "and let go when the last rollout has ended"
    with torch.no_grad():
        ours = trainer.engine.logps(trainer.model, group_batch(batch.groups), keys=[0, 1]).logps_BC
        plain, _ = plain_logps(AutoModelForImageTextToText.from_pretrained(model_dir), group_batch(batch.groups))
    assert (ours - plain).abs().max() < 1e-5
    assert (ours != 0).sum() == sum(rollout.num_trained for rollout in batch.rollouts)


def show(what: str, images: RolloutImages) -> list:
    """Show something.

    Args:
        what: which picture.
    """
    first = images[1].picture
    shown = {
        "same": [first],
        "part": [first.crop((0, 0, 28, 56))],
        "twice": [Image.new("RGB", (56, 28), "red")] * 2,
        "larger": [first.resize((first.width + 56, first.height + 56))],
    }
    return [{"type": "image", "image": picture} for picture in shown[what]]


@pytest.mark.slow
@pytest.mark.parametrize("freeze_vision", [True, False])
def test_equal_pixels_are_encoded_once_in_whatever_turn_and_place_they_come(make_trainer, write_rows, freeze_vision):
    trainer = make_trainer(
        write_rows([1]),
        tools=[show],
        freeze_vision=freeze_vision,
        per_device_train_batch_size=2,
        max_completion_length=900,
    )
    same, part, twice, larger = (call("show", what=what) for what in ("same", "part", "twice", "larger"))
    says(trainer, [same, part], [part, twice], [larger, "red"], ["blue"])
    encoded, prepared = [], []
    trainer.model.model.visual.register_forward_pre_hook(
        lambda module, args, kwargs: encoded.append(len(kwargs["grid_thw"])), with_kwargs=True
    )
    prepare = trainer.preparer.processor.image_processor.preprocess
    trainer.preparer.processor.image_processor.preprocess = lambda images, *args, **options: (
        prepared.append(len(images) if isinstance(images, list) else 1) or prepare(images, *args, **options)
    )
    trainer._to_verify = False
    batch = trainer._generate_and_score_completions([{"row": 0}] * 2)["triptych_batch"]
    one, other = batch.rollouts
    assert [len(one.images), len(other.images)] == [3, 3]
    (first,) = batch.groups[0].prompt.image_digests
    assert one.images[0].digest == first, "the prompt's own picture came back"
    assert one.images[1].digest == other.images[0].digest, "the same part, in other turns of two rollouts"
    assert other.images[1].digest == other.images[2].digest, "twice in one turn"
    unique = group_batch(batch.groups).image_keys
    assert len(unique) == 4, "the prompt's, its part, the red one, and the larger one"
    assert sum(encoded) == trainer.engine.images_encoded == 4
    assert sum(prepared) == 5, "each once in a prompt, and once as what tools returned"
    trainer._compute_loss(trainer.model, {"triptych_batch": batch}).backward()
    assert sum(encoded) in ((4,) if freeze_vision else (4, 8)), "a trained tower may run once more"
    assert trainer.engine.turns.rows_prefilled_again == 0


def test_an_environment_is_played_rewarded_and_kept_in_the_cycle(make_trainer, write_rows):
    trainer = make_trainer(
        write_rows([0]), environment_factory=Boxes, per_device_train_batch_size=2, max_completion_length=600
    )
    says(trainer, [call("open", box=1), call("open", box=3)], [call("open", box=2), "done"])
    trainer._to_verify = False
    batch = trainer._generate_and_score_completions([{"row": 0}] * 2)["triptych_batch"]
    assert trainer.reward_func_names == ["Boxes"]
    assert list(trainer._logs["rewards"]["Boxes"]) == [3.0, 3.0]
    assert [rollout.finish for rollout in batch.rollouts] == ["done", "stop"]
    assert trainer._logs["completion"][0][1]["content"] == [{"type": "image"}]
    assert len(batch.groups[0].prompt.spans) == 1
    trainer._buffered_inputs = Cycle(keys=(0,), parts=(batch,))
    trainer.restore_cycle_from(trainer.cycle_to_state())
    (again,) = trainer._buffered_inputs.parts
    ours, theirs = group_batch(batch.groups), group_batch(again.groups)
    assert ours.image_keys == theirs.image_keys
    assert ours.completion_images == theirs.completion_images
    assert ours.prompts == theirs.prompts


class Clock:
    """Tells the time, and says nothing of what a rollout was worth."""

    def reset(self) -> None: ...

    def time(self) -> str:
        """Tell the time."""
        return "noon"


@pytest.mark.slow
def test_environments_by_name_are_trained_on_with_the_tools_and_the_rewards_of_each_row(make_trainer, write_rows):
    data = write_rows([0, 1])
    kinds = {"0 images": "boxes", "1 images": "clock"}
    rows = [json.loads(line) for line in data.read_text().splitlines()]
    data.write_text("\n".join(json.dumps({**row, "environment": kinds[row["kind"]]}) for row in rows) + "\n")
    trainer = make_trainer(
        data,
        rewards=[lambda completions, **_: [1.0] * len(completions)],
        environment_factory={"boxes": Boxes, "clock": Clock},
        per_device_train_batch_size=4,
        max_completion_length=600,
        max_steps=1,
        verify_model=False,
        shuffle_dataset=False,
    )
    says(trainer, [call("open", box=1), "red", call("time"), call("open", box=1)], ["red", "blue", "green"])
    trainer.train()
    (batch,) = trainer._buffered_inputs.parts
    by_key = {group.key: group.rollouts for group in batch.groups}
    assert [one.num_failed_calls for one in by_key[0]] == [0, 0]
    assert [one.num_failed_calls for one in by_key[1]] == [0, 1], "the boxes are not for this row"
    scores = list(trainer._logs["rewards"]["Boxes"])
    assert sorted(score for score in scores if score == score) == [0.0, 1.0], "the clock's rows have no such reward"
    assert trainer.reward_func_names[-1] == "Boxes"


class Worth(Boxes):
    """Says after each turn what the box was worth."""

    def get_turn_reward(self) -> float:
        return float(self.opened[-1])


@pytest.mark.slow
def test_turns_as_samples_share_the_prompt_and_are_scored_behind_what_they_were_sampled_from(
    make_trainer, write_rows, model_dir
):
    trainer = make_trainer(
        write_rows([1]),
        environment_factory=Worth,
        per_device_train_batch_size=2,
        max_steps=1,
        max_completion_length=600,
        scale_rewards="none",
        verify_model=False,
        turns=TurnOptions(history="last_1", advantage="gigpo", step_gamma=0.5, mask_over_turn=True, max_turns=2),
    )
    says(trainer, [call("open", box=1), call("open", box=3)], [call("open", box=1), "red"])
    trainer.train()
    (batch,) = trainer._buffered_inputs.parts
    assert [one.trajectory for one in batch.rollouts] == [0, 0, 1, 1]
    assert [one.num_trained > 0 for one in batch.rollouts] == [False, False, True, True], "the first was over-turn"
    returns = [[1.0, 0.0], [3.0, 0.0]]
    episode = [-1.0, 1.0]
    first = [value[0] - 2.0 for value in returns]
    assert batch.advantages.tolist() == pytest.approx([0.0, 0.0, episode[1] + first[1], episode[1]])
    assert batch.mean_rows == 2.0
    assert len(batch.groups) == 1, "all turns of all rollouts stand behind one prompt"
    message, red = (one.num_trained for one in batch.rollouts[2:])
    loss = -(2.0 * message + 1.0 * red) / (message + red)
    assert float(trainer.state.log_history[0]["loss"]) == pytest.approx(loss, abs=1e-3)
    trainer.engine.forget()
    with torch.no_grad():
        ours = trainer.engine.logps(trainer.model, group_batch(batch.groups), keys=[0]).logps_BC
        plain, _ = plain_logps(trainer.model, group_batch(batch.groups))
    assert (ours - plain).abs().max() < 1e-5
    trainer.restore_cycle_from(trainer.cycle_to_state())
    (again,) = trainer._buffered_inputs.parts
    assert group_batch(again.groups).completion_images == group_batch(batch.groups).completion_images


def test_an_environment_without_tools_begins_the_prompt_and_scores_the_answer(make_trainer, write_rows):
    class Riddle:
        def reset(self, **row) -> str:
            return " Answer in one word."

        def get_reward(self) -> float:
            return 0.5

    trainer = make_trainer(write_rows([1]), environment_factory=Riddle, per_device_train_batch_size=2)
    trainer._to_verify = False
    batch = trainer._generate_and_score_completions([{"row": 0}] * 2)["triptych_batch"]
    text = trainer._tokenizer.decode(batch.groups[0].prompt.ids)
    assert "Answer in one word." in text
    assert "You can call tools" not in text
    assert list(trainer._logs["rewards"]["Riddle"]) == [0.5, 0.5]

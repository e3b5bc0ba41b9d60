"""What a reward function of a script gets: TRL's keywords, and values that no other completion shares."""

import pytest
from datasets import Dataset
from PIL import Image
from triptych_data import DataError
from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer
from triptych_trainer.prompts.dataset_table import DatasetTable
from triptych_trainer.rewards.correctness import accuracy_reward
from triptych_trainer.trajectories.environments import Environments
from trl import GRPOConfig, GRPOTrainer

CPU = {"use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no", "disable_tqdm": True}
SMALL = {**CPU, "num_generations": 2, "per_device_train_batch_size": 4, "max_completion_length": 4, "max_steps": 1}
SMALL["shuffle_dataset"] = False
PICTURE = Image.new("RGB", (56, 56), (9, 9, 9))


def rows(**columns):
    """Two rows of text, with further columns."""
    return Dataset.from_dict({"prompt": [[{"role": "user", "content": f"say {k}"}] for k in range(2)], **columns})


def train(model_dir, tmp_path, dataset, rewards, *, trainer=MultiImageGRPOTrainer, **options):
    own = {name: options.pop(name) for name in ("on_rollouts",) if name in options}
    args = GRPOConfig(output_dir=str(tmp_path / "out"), **{**SMALL, **options})
    run = trainer(str(model_dir), rewards, args=args, train_dataset=dataset, **own)
    run.train()
    return run


@pytest.mark.parametrize("drawn", [False, True], ids=["stored", "by a transform"])
def test_a_reward_that_changes_what_it_gets_changes_no_neighbour_and_no_row(model_dir, tmp_path, drawn):
    seen = []

    def reward(prompts, completions, words, images, **_):
        for prompt, completion, own, pictures in zip(prompts, completions, words, images, strict=True):
            seen.append((len(prompt), len(prompt[0]["content"]), len(own), len(own[0]), pictures[0].getpixel((0, 0))))
            prompt.append(completion[0])
            prompt[0]["content"].pop()
            own[0].append("x")
            own.pop()
            pictures[0].putpixel((0, 0), (1, 2, 3))
        return [0.0] * len(words)

    dataset = rows(words=[[["a"], ["b", "c"]]] * 2, images=[[PICTURE]] * 2)
    if drawn:
        kept = [dataset[k] for k in range(2)]
        dataset = Dataset.from_dict({"k": [0, 1]}).with_transform(
            lambda batch: {name: [kept[k][name] for k in batch["k"]] for name in kept[0]}
        )
    train(model_dir, tmp_path, dataset, reward, max_steps=2)
    assert seen == [(1, 2, 2, 1, (9, 9, 9))] * 8


def test_an_environment_that_uses_up_its_row_leaves_the_others_theirs():
    class Room:
        def reset(self, words, **_):
            self.words = words

        def look(self) -> str:
            """Look."""
            return "nothing"

    rooms = [Room(), Room()]
    Environments(Room, seconds=1).reset(rooms, {"words": ["a", "b"]}, where="here")
    rooms[0].words.clear()
    assert rooms[1].words == ["a", "b"]


def test_a_strict_signature_of_trl_is_called_with_what_it_takes(model_dir, tmp_path):
    seen = []

    def strict(prompts, completions, completion_ids, answer, images, trainer_state, log_extra, log_metric):
        seen.append(answer)
        return [0.0] * len(answer)

    async def later(prompts, completions, completion_ids, answer, images, trainer_state, log_extra, log_metric):
        seen.append(images)
        return [0.0] * len(answer)

    train(model_dir, tmp_path, rows(answer=["a", "b"], images=[[PICTURE]] * 2), [strict, later])
    assert seen[0] == ["a", "a", "b", "b"]
    assert [len(pictures) for pictures in seen[1]] == [1] * 4


def test_a_default_stays_where_the_dataset_has_no_column_and_keywords_are_trl_s(model_dir, tmp_path):
    seen = {}

    def trl_s(completions, images=None, answer=None, **others):
        seen["trl's"] = images, answer, sorted(others)
        return [0.0] * len(completions)

    def needing(completions, answer, image_infos, **others):
        seen["ours"] = answer, image_infos
        return [0.0] * len(completions)

    train(model_dir, tmp_path, rows(solution=["a", "b"], level=[1, 2]), [trl_s, needing, accuracy_reward()])
    ours = ("example_id", "image_infos", "prompt_end", "source")
    own = ("prompts", "completion_ids", "trainer_state", "log_extra", "log_metric", "solution", "level")
    assert seen["trl's"] == (None, None, sorted([*own, *ours]))
    assert seen["ours"] == (["a", "a", "b", "b"], [[]] * 4)


@pytest.mark.parametrize("import_of", [MultiImageGRPOTrainer, pytest.param(GRPOTrainer, marks=pytest.mark.slow)])
def test_two_rewards_of_one_name_are_logged_as_in_trl(model_dir, tmp_path, import_of):
    told = []
    rewards = [
        lambda completions, **_: [float(k) for k in range(len(completions))],
        lambda completions, **_: [float(8 * k) for k in range(len(completions))],
    ]
    watching = {} if import_of is GRPOTrainer else {"on_rollouts": lambda groups, **_: told.extend(groups)}
    run = train(model_dir, tmp_path, rows(), rewards, trainer=import_of, **watching)
    logged = run.state.log_history[0]
    assert logged["rewards/<lambda>/mean"] == pytest.approx((1.5 + 12) / 2)
    assert logged["rewards/<lambda>/std"] == pytest.approx((1 + 8) / 2 * 1.6666667**0.5)
    assert logged["reward"] == pytest.approx(13.5)
    for group in told:
        assert group.rewards["<lambda> (2)"] == tuple(8 * score for score in group.rewards["<lambda>"])
    assert len(told) == (0 if import_of is GRPOTrainer else 2)


@pytest.mark.parametrize("import_of", [MultiImageGRPOTrainer, pytest.param(GRPOTrainer, marks=pytest.mark.slow)])
def test_an_image_given_as_a_path_is_that_path_in_the_prompt(model_dir, tmp_path, monkeypatch, import_of):
    seen = []

    def reward(prompts, images, **_):
        seen.extend(zip(prompts, images, strict=True))
        return [0.0] * len(images)

    monkeypatch.chdir(tmp_path)
    PICTURE.save("a.png")
    train(model_dir, tmp_path, rows(images=[["a.png"]] * 2), reward, trainer=import_of)
    parts = [{"type": "image", "image": "a.png"}, {"type": "text", "text": "say 0"}]
    assert seen[0] == ([{"role": "user", "content": parts}], ["a.png"])


def test_images_whose_place_is_before_a_later_turn_in_trl_are_refused_and_the_remedy_works():
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "look"}]},
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "what is it ?"},
    ]
    told = "the images to have a place, .*TRL puts the images before the later one; .*where it belongs"
    with pytest.raises(DataError, match=told):
        example_of(turns)
    placed = [{"role": "user", "content": [{"type": "text", "text": "look"}, {"type": "image"}]}, *turns[1:]]
    assert len(example_of(placed).images) == 1
    assert len(example_of([{"role": "user", "content": "first"}, *turns[1:]]).images) == 1
    assert not example_of(turns, images=[]).images


def example_of(turns, *, images=(PICTURE,)):
    given = Dataset.from_dict({"k": [0]}).with_transform(lambda batch: {"prompt": [turns], "images": [list(images)]})
    return DatasetTable(given, name="train_dataset").example(0)

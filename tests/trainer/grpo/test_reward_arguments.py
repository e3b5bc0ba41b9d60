"""What a reward function of a script gets: TRL's keywords, and values that no other completion shares."""

import pytest
from datasets import Dataset
from PIL import Image
from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer
from triptych_trainer.trajectories.environments import Environments
from trl import GRPOConfig

CPU = {"use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no", "disable_tqdm": True}
SMALL = {**CPU, "num_generations": 2, "per_device_train_batch_size": 4, "max_completion_length": 4, "max_steps": 1}
SMALL["shuffle_dataset"] = False
PICTURE = Image.new("RGB", (56, 56), (9, 9, 9))


def rows(**columns):
    """Two rows of text, with further columns."""
    return Dataset.from_dict({"prompt": [[{"role": "user", "content": f"say {k}"}] for k in range(2)], **columns})


def train(model_dir, tmp_path, dataset, rewards, *, trainer=MultiImageGRPOTrainer, **options):
    args = GRPOConfig(output_dir=str(tmp_path / "out"), **{**SMALL, **options})
    run = trainer(str(model_dir), rewards, args=args, train_dataset=dataset)
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

"""A dataset with a transform that draws anew on each access: one use of a row is one draw, as in TRL."""

import itertools

import pytest
from datasets import Dataset
from PIL import Image
from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer
from trl import GRPOConfig

CPU = {"use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no", "disable_tqdm": True}
SMALL = {**CPU, "num_generations": 2, "per_device_train_batch_size": 4, "max_completion_length": 4, "max_steps": 2}


def drawing(*, with_images=False, same_prompt=False):
    """Two rows that ask for another number each time that they are looked at, in the image or in the text."""
    draws = itertools.count(1)

    def draw(batch):
        drawn = [next(draws) for _ in batch["k"]]
        said = ["count" if same_prompt or with_images else f"say {number}" for number in drawn]
        columns = {"prompt": [[{"role": "user", "content": text}] for text in said], "answer": list(map(str, drawn))}
        if with_images:
            columns["images"] = [[Image.new("RGB", (56, 56), (number, 0, 0))] for number in drawn]
        return columns

    return Dataset.from_dict({"k": [0, 1]}).with_transform(draw), draws


def build(model_dir, tmp_path, dataset, reward, **options):
    own = {name: options.pop(name) for name in ("environment_factory",) if name in options}
    args = GRPOConfig(output_dir=str(tmp_path / "out"), **{**SMALL, **options})
    return MultiImageGRPOTrainer(str(model_dir), reward, args=args, train_dataset=dataset, **own)


def text_of(prompt):
    content = prompt[-1]["content"]
    return content if isinstance(content, str) else content[-1]["text"]


def test_rewards_get_the_answer_of_the_draw_that_the_prompt_shows(model_dir, tmp_path):
    seen = []

    def reward(prompts, answer, **_):
        seen.extend(zip(map(text_of, prompts), answer, strict=True))
        return [0.0] * len(answer)

    dataset, draws = drawing()
    trainer = build(model_dir, tmp_path, dataset, reward, eval_strategy="no")
    trainer.eval_dataset = dataset
    trainer.train()
    trainer.evaluate()
    assert len(seen) >= 10
    assert [text for text, _ in seen] == [f"say {answer}" for _, answer in seen]
    assert len({answer for _, answer in seen}) == len(seen) // 2, "each generation draws anew, once for a prompt"
    assert next(draws) == 1 + len(seen) // 2, "and nothing else calls the transform"


def test_images_and_columns_are_of_one_draw(model_dir, tmp_path):
    seen = []

    def reward(prompts, images, answer, **_):
        for prompt, pictures, number in zip(prompts, images, answer, strict=True):
            (shown,) = (part["image"] for part in prompt[0]["content"] if part["type"] == "image")
            seen.append((shown.getpixel((0, 0))[0], pictures[0].getpixel((0, 0))[0], int(number)))
        return [0.0] * len(answer)

    build(model_dir, tmp_path, drawing(with_images=True)[0], reward).train()
    assert len(seen) == 8
    assert all(shown == given == answer for shown, given, answer in seen)


def test_an_equal_prompt_does_not_bring_back_the_answer_of_an_earlier_draw(model_dir, tmp_path):
    seen = []

    def reward(answer, **_):
        seen.append(tuple(answer))
        return [0.0] * len(answer)

    build(model_dir, tmp_path, drawing(same_prompt=True)[0], reward).train()
    first, second = seen
    assert not set(first) & set(second)


@pytest.mark.slow
def test_an_environment_is_reset_with_the_draw_of_its_prompt(model_dir, tmp_path):
    seen = []

    class Room:
        def reset(self, answer, prompt, **_):
            self.told = (text_of(prompt), answer)

        def look(self) -> str:
            """Look."""
            return "nothing"

    def reward(prompts, answer, environments, **_):
        told = [environment.told for environment in environments]
        seen.extend(zip(map(text_of, prompts), answer, told, strict=True))
        return [0.0] * len(answer)

    build(model_dir, tmp_path, drawing()[0], reward, environment_factory=Room, max_steps=1).train()
    assert len(seen) == 4
    assert all(told == (text, answer) and text == f"say {answer}" for text, answer, told in seen)


@pytest.mark.slow
def test_a_resumed_run_samples_again_after_another_draw_and_goes_on_after_the_same_one(model_dir, tmp_path):
    heard = []

    def reward(prompts, answer, **_):
        heard.append(set(map(text_of, prompts)))
        return [float(k) for k in range(len(answer))]

    options = {"num_iterations": 2, "save_strategy": "steps", "save_steps": 1}
    build(model_dir, tmp_path, drawing()[0], reward, **options, max_steps=1).train()
    checkpoint = str(tmp_path / "out" / "checkpoint-1")
    build(model_dir, tmp_path, drawing()[0], reward, **options).train(resume_from_checkpoint=checkpoint)
    assert len(heard) == 1, "the new process draws the same numbers"
    dataset, draws = drawing()
    next(draws)
    with pytest.warns(UserWarning, match=r"train_dataset\[\d\] has another prompt .*are sampled again"):
        build(model_dir, tmp_path, dataset, reward, **options).train(resume_from_checkpoint=checkpoint)
    assert len(heard) == 2

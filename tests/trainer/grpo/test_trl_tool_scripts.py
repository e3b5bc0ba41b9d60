"""Scripts of the shape of TRL's own examples for vision models with tools and environments, with the import changed."""

import base64
from dataclasses import replace
from io import BytesIO

import pytest
from datasets import Dataset
from PIL import Image
from triptych_trainer.grpo.trl import trainer as trainer_module
from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer as GRPOTrainer
from triptych_trainer.rollouts.sampled import Sampled
from trl import GRPOConfig

SMALL = {"use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no", "disable_tqdm": True}
PROMPT = "Observe, then decide."


class Client:
    """Stands for a simulator behind an address: pictures come as JPEG in base64."""

    def __init__(self, base_url):
        self.base_url = base_url

    def step(self, action):
        buffer = BytesIO()
        Image.new("RGB", (320, 200), {"observe": "grey", "stop": "red"}.get(action, "blue")).save(buffer, format="JPEG")
        return base64.b64encode(buffer.getvalue()).decode(), 1.0 if action == "stop" else 0.25


class VehicleEnv:
    """One address for each instance, static helpers, a text at first, pictures later, the reward in an attribute."""

    _env_url_iter = None
    _image_size = 64

    def __init__(self):
        self.client = Client(base_url=next(VehicleEnv._env_url_iter))

    @staticmethod
    def _decode_image(camera_image_b64, target_size):
        img = Image.open(BytesIO(base64.b64decode(camera_image_b64)))
        img.thumbnail((target_size, target_size), Image.LANCZOS)
        return img

    def _format_multimodal(self, action) -> list:
        picture, self.reward = self.client.step(action)
        return [
            {"type": "image", "image": self._decode_image(picture, VehicleEnv._image_size)},
            {"type": "text", "text": f"After {action}."},
        ]

    def reset(self, **kwargs) -> str | None:
        self.reward = 0.0
        return "Speed: 40.0 km/h."

    def observe(self) -> list:
        """
        Look.

        Returns:
            The scene.
        """
        return self._format_multimodal("observe")

    def lane_change(self, direction: str) -> list:
        """
        Move.

        Args:
            direction: Where to.

        Returns:
            The scene.
        """
        if direction not in ("up", "right"):
            raise ValueError(f"no way {direction!r}")
        return self._format_multimodal("stop")


def reward_func(environments, **kwargs):
    return [environment.reward for environment in environments]


@pytest.fixture
def says(monkeypatch):
    """Let the two rollouts of a prompt say these messages, turn by turn."""

    def script(*turns):
        real = trainer_module.sampler

        def scripted(trainer, *given):
            own, tokenizer, rest = real(trainer, *given), trainer._tokenizer, iter(turns[1:])

            def said(text):
                return Sampled(ids=[*tokenizer(text)["input_ids"], tokenizer.eos_token_id])

            return replace(
                own,
                sample=lambda groups, sizes: [[said(turns[0][k]) for k in range(size)] for size in sizes],
                go_on=lambda groups, room: [said(text) for text in next(rest)[: len(groups)]],
            )

        monkeypatch.setattr(trainer_module, "sampler", scripted)

    return script


def call(name, arguments="{}"):
    return f'<tool_call>{{"name": "{name}", "arguments": {arguments}}}</tool_call>'


@pytest.mark.slow
def test_an_environment_of_trls_examples_runs_with_the_import_changed(model_dir, tmp_path, says):
    VehicleEnv._env_url_iter = iter(["http://one", "http://two"])
    says(
        [call("observe"), call("lane_change", '{"direction": "blue"}')],
        ["I stop.", call("lane_change", '{"direction": "up"}')],
        ["Done."],
    )
    lines = []
    trainer = GRPOTrainer(
        model=str(model_dir),
        train_dataset=Dataset.from_dict({"prompt": [[{"role": "user", "content": PROMPT}] for _ in range(4)]}),
        reward_funcs=reward_func,
        args=GRPOConfig(
            output_dir=str(tmp_path / "out"),
            chat_template_kwargs={"enable_thinking": False},
            log_completions=True,
            logging_steps=1,
            num_completions_to_print=1,
            max_completion_length=1024,
            per_device_train_batch_size=2,
            steps_per_generation=1,
            num_generations=2,
            gradient_accumulation_steps=1,
            max_steps=1,
            **SMALL,
        ),
        environment_factory=VehicleEnv,
        say=lines.append,
    )
    trainer.train()
    (batch,) = trainer._buffered_inputs.parts
    first, second = batch.rollouts
    assert (first.num_calls, second.num_calls, second.num_failed_calls) == (1, 2, 1)
    assert (len(first.images), len(second.images)) == (1, 1)
    assert list(trainer._logs["rewards"]["reward_func"]) == [0.25, 1.0]
    assert "rollout 2, turn 1: lane_change failed, and the model was told: ValueError: no way 'blue'" in lines[0]
    assert trainer._logs["prompt"][0][-1]["content"].endswith("decide.Speed: 40.0 km/h.")
    assert "[image 1]After observe." in trainer._logs["completion"][0][1]["content"]


@pytest.mark.slow
def test_a_tool_of_trls_documentation_returns_a_screenshot(model_dir, tmp_path, says):
    def take_screenshot() -> list:
        """
        Takes a screenshot of the current screen.

        Returns:
            The screenshot image with a description.
        """
        img = Image.new("RGB", (64, 64), "white")
        return [{"type": "image", "image": img}, {"type": "text", "text": "Here is the screenshot."}]

    says([call("take_screenshot"), "no need"], ["A white screen."])
    images = [[Image.new("RGB", (56, 56), "red")]] * 2
    prompts = [[{"role": "user", "content": "What is on the screen, unlike this image?"}]] * 2
    trainer = GRPOTrainer(
        model=str(model_dir),
        train_dataset=Dataset.from_dict({"prompt": prompts, "images": images}),
        reward_funcs=lambda completions, **kwargs: [float(len(one)) for one in completions],
        args=GRPOConfig(
            output_dir=str(tmp_path / "out"),
            max_completion_length=512,
            per_device_train_batch_size=2,
            num_generations=2,
            max_steps=1,
            **SMALL,
        ),
        tools=[take_screenshot],
    )
    trainer.train()
    (batch,) = trainer._buffered_inputs.parts
    assert [len(one.images) for one in batch.rollouts] == [1, 0]
    assert next(iter(trainer._logs["rewards"].values()))[0] == 3.0, "a message, its result, and the answer"


@pytest.mark.slow
def test_an_environment_gives_the_tasks_of_rows_without_a_prompt(model_dir, tmp_path, says):
    VehicleEnv._env_url_iter = iter(["http://one", "http://two"])
    says([call("observe"), "no"], ["Done."])
    trainer = GRPOTrainer(
        model=str(model_dir),
        train_dataset=Dataset.from_dict({"environment": ["car", "car"], "lane": [1, 2]}),
        reward_funcs=reward_func,
        args=GRPOConfig(
            output_dir=str(tmp_path / "out"),
            max_completion_length=512,
            per_device_train_batch_size=2,
            num_generations=2,
            max_steps=1,
            **SMALL,
        ),
        environment_factory={"car": VehicleEnv},
    )
    trainer.train()
    (batch,) = trainer._buffered_inputs.parts
    assert [len(one.images) for one in batch.rollouts] == [1, 0]
    assert trainer._logs["prompt"][0][-1]["content"] == "Speed: 40.0 km/h."


@pytest.mark.slow
def test_held_out_rows_are_played_during_a_run_by_name(model_dir, tmp_path, says):
    VehicleEnv._env_url_iter = iter(f"http://{k}" for k in range(9))
    says([call("observe"), call("lane_change", '{"direction": "up"}')], ["Done.", "Stop."] * 2)
    rows = [[{"role": "user", "content": PROMPT}] for _ in range(3)]
    seen = []
    trainer = GRPOTrainer(
        model=str(model_dir),
        train_dataset=Dataset.from_dict({"prompt": rows[:1], "lane": [1]}),
        eval_dataset={
            "near": Dataset.from_dict({"prompt": rows[:1], "lane": [7]}),
            "far": Dataset.from_dict({"prompt": rows[:2], "lane": [8, 9]}),
        },
        reward_funcs=reward_func,
        args=GRPOConfig(
            output_dir=str(tmp_path / "out"),
            max_completion_length=512,
            per_device_train_batch_size=2,
            per_device_eval_batch_size=4,
            num_generations=2,
            max_steps=1,
            eval_strategy="steps",
            eval_steps=1,
            logging_steps=1,
            **SMALL,
        ),
        environment_factory=VehicleEnv,
        on_rollouts=lambda groups, step, mode: seen.extend(
            (mode, [len(one.images) for one in group.group.rollouts], group.rewards["reward_func"]) for group in groups
        ),
    )
    trainer.train()
    assert seen == [("train", [1, 1], (0.25, 1.0))] + [("eval", [1, 1], (0.25, 1.0))] * 3
    logged = [entry for entry in trainer.state.log_history if "eval_reward" in entry]
    assert ["near" in str(entry) for entry in logged] == [True, False], "one entry for each of the two"
    for entry in logged:
        assert (entry["eval_reward"], entry["eval_tools/call_frequency"], entry["eval_tools/images"]) == (
            0.625,
            1.0,
            1.0,
        )

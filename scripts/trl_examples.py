"""Run TRL's own examples that train vision models in environments, with only the import of the trainer changed.

    python scripts/trl_examples.py FOLDER        # a checkout of huggingface/trl

The model is the tiny one of the demo, the servers of the environments are replaced by classes that draw pictures, and
what the model says is given, because a model with new weights calls no tools. Everything else is the example's own
code. It prints a line for each example, and fails if one does not train with images that arrived in its rollouts.
"""

import argparse
import base64
import io
import os
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
from PIL import Image
from triptych_trainer import MultiImageGRPOTrainer
from triptych_trainer.demo import build_model, build_processor, build_tokenizer
from triptych_trainer.grpo.trl import trainer as trainer_module
from triptych_trainer.rollouts.sampled import Sampled
from trl import GRPOConfig

IMPORT = "from trl import GRPOConfig, GRPOTrainer"
CHANGED = "from trl import GRPOConfig\nfrom triptych_trainer import MultiImageGRPOTrainer as GRPOTrainer"
SHORT = ["--max-completion-length", "4000"]
ADDRESSES = ["--env-urls", "http://one", "http://two", "--max-steps", "2", "--gradient-accumulation-steps", "1"]
EXAMPLES: Mapping[str, tuple[list[str], list[list[str]]]] = {
    "carla_vlm": (["--model", "MODEL", *ADDRESSES, *SHORT], [["observe", "lane_change left"], ["", "observe"], [""]]),
    "carla_vlm_gemma": (
        ["--model", "MODEL", *ADDRESSES, *SHORT, "--use-lora", "--lora-r", "2", "--report-to", "none"],
        [["observe", "emergency_stop"], ["", "lane_change up"], [""]],
    ),
    "browsergym": (
        [
            *("--model-id", "MODEL", "--dataset-size", "2", "--num-generations", "4", "--output-dir", "OUT"),
            *("--gradient-accumulation-steps", "1", "--learning-rate", "1e-4", "--image-size", "64", *SHORT),
        ],
        [["click 13", "noop", "noop", ""], ["noop", "", "noop", ""], ["", ""]],
    ),
}
"""By the name of the example: its arguments, and for each turn the calls of the rollouts that go on; "" answers."""
ARGUMENTS = {"lane_change": "direction", "click": "bid"}


class Carla:
    """A street that changes its colour with every step."""

    def __init__(self, **_: Any) -> None:
        self.steps = 0

    def _result(self) -> SimpleNamespace:
        buffer = io.BytesIO()
        Image.new("RGB", (320, 200), (40 * (self.steps % 6), 90, 60)).save(buffer, format="JPEG")
        seen = {"speed_kmh": 40.0, "nearby_actors": [{"type": "pedestrian", "distance": 9}]}
        seen |= {"collision_detected": False, "collided_with": None, "rubric_reward": self.steps / 100}
        picture = base64.b64encode(buffer.getvalue()).decode()
        return SimpleNamespace(observation=SimpleNamespace(**seen, camera_image=picture), done=False, reward=0.0)

    def reset(self, **_: Any) -> SimpleNamespace:
        self.steps = 0
        return self._result()

    def step(self, action: Any) -> SimpleNamespace:
        self.steps += 1
        return self._result()


class Browser(Carla):
    """A page whose button ends the episode."""

    def _result(self) -> SimpleNamespace:
        seen = {"goal": "Click the button.", "axtree_txt": "[13] button", "last_action_error": False, "error": ""}
        seen["screenshot"] = np.full((90, 120, 3), 20 * self.steps, dtype=np.uint8)
        return SimpleNamespace(observation=SimpleNamespace(**seen), done=False, reward=0.0)

    def step(self, action: Any) -> SimpleNamespace:
        self.steps += 1
        clicked = "click" in action.action_str
        return SimpleNamespace(observation=self._result().observation, done=clicked, reward=float(clicked))


def stand_in(name: str, **members: Any) -> None:
    """Put a module with these members in the place of one that is not installed."""
    module = ModuleType(name)
    for member, value in members.items():
        setattr(module, member, value)
    sys.modules[name] = module


def call(text: str) -> str:
    """A message that calls a tool; an answer if there is no name."""
    name, _, value = text.partition(" ")
    arguments = f'{{"{ARGUMENTS[name]}": "{value}"}}' if value else "{}"
    return f'<tool_call>{{"name": "{name}", "arguments": {arguments}}}</tool_call>' if name else "Done."


def say(turns: list[list[str]]) -> None:
    """Let rollouts say these calls, turn by turn, in every generation."""
    real = say.real

    def scripted(trainer: Any, *given: Any) -> Any:
        own, tokenizer, rest = real(trainer, *given), trainer._tokenizer, iter(turns[1:])

        def said(text: str) -> Sampled:
            return Sampled(ids=[*tokenizer(call(text))["input_ids"], tokenizer.eos_token_id])

        return replace(
            own,
            sample=lambda groups, sizes: [[said(turns[0][k]) for k in range(size)] for size in sizes],
            go_on=lambda groups, room: [said(text) for text, _ in zip(next(rest), groups, strict=False)],
        )

    trainer_module.sampler = scripted


say.real = trainer_module.sampler  # type: ignore[attr-defined]


def run(path: Path, arguments: list[str], turns: list[list[str]]) -> str:
    """Run one example; returns what it did, in words."""
    source = path.read_text(encoding="utf-8")
    if IMPORT not in source:
        raise SystemExit(f"{path}: expected the line {IMPORT!r}, which is what is changed")
    made: list[Any] = []

    class Kept(MultiImageGRPOTrainer):
        def __init__(self, *given: Any, **more: Any) -> None:
            made.append(self)
            super().__init__(*given, **more)

    say(turns)
    sys.argv = [path.name, *arguments]
    code = source.replace(IMPORT, CHANGED)
    scope: dict[str, Any] = {"__name__": "example"}
    exec(compile(code, str(path), "exec"), scope)
    scope["GRPOTrainer"] = Kept
    # without a GPU, and without the tracker that the examples name
    scope["GRPOConfig"] = lambda **more: GRPOConfig(**{**more, "use_cpu": True, "bf16": False, "report_to": "none"})
    scope["main"]()
    (trainer,) = made
    logged = [entry for entry in trainer.state.log_history if "tools/images" in entry]
    assert logged, "a step was logged"
    assert all(entry["tools/images"] > 0 for entry in logged), "images arrived in the rollouts"
    calls, images = logged[-1]["tools/call_frequency"], logged[-1]["tools/images"]
    return f"{trainer.state.global_step} steps, {calls:g} calls and {images:g} images per rollout"


def main() -> None:
    """Run every example of the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a checkout of huggingface/trl")
    scripts = (parser.parse_args().folder / "examples" / "scripts" / "openenv").resolve()
    stand_in("carla_env", CarlaEnv=Carla, CarlaAction=SimpleNamespace)
    stand_in("browsergym_env", BrowserGymEnv=Browser, BrowserGymAction=SimpleNamespace)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)  # an example may name no output folder, and would write into this repository
        model = Path(folder) / "model"
        tiny = build_model(0)
        tiny.config.get_text_config().max_position_embeddings = 16384  # its tokenizer knows few words of these prompts
        tiny.save_pretrained(model)
        build_processor(build_tokenizer()).save_pretrained(model)
        places = {"MODEL": str(model), "OUT": str(Path(folder) / "out")}
        for name, (arguments, turns) in EXAMPLES.items():
            done = run(scripts / f"{name}.py", [places.get(word, word) for word in arguments], turns)
            print(f"trl-examples: {name}: {done}")


if __name__ == "__main__":
    main()

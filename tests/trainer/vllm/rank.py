"""One rank of runs with a server: python rank.py <model folder> <rows.jsonl> <completions per rank> <result.pt>

A run with a lag, a run with a tool, and a run with a `rollout_func`, one after the other. The server is the stand-in of
`conftest.py`, which only rank 0 reaches.
"""

import importlib.util
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import trl.trainer.grpo_trainer
from PIL import Image
from transformers import AutoModelForImageTextToText
from triptych_data import ImageLoader, read_examples
from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer
from triptych_trainer.grpo.vllm.client import RolloutClient
from triptych_trainer.models.load import load_processor
from triptych_trainer.prompts.example_table import ExampleTable
from triptych_trainer.prompts.prepare import PromptPreparer
from trl import GRPOConfig

CALLS = [f"<tool_call>{json.dumps({'name': 'paint', 'arguments': {'number': k}})}</tool_call>" for k in (3, 4)]
TURN = "\n<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|><|im_end|>\n<|im_start|>assistant\n"


def character_reward(completions: Sequence[Any], **_: Any) -> list[float]:
    return [float(len(set(completion[0]["content"]))) for completion in completions]


def place_reward(completions: Sequence[Any], **_: Any) -> list[float]:
    return [float(k % 2) for k in range(len(completions))]


def paint(number: int) -> list:
    """Paint an image.

    Args:
        number: Its colour.
    """
    return [{"type": "image", "image": Image.new("RGB", (56, 84), (9 * number, 40, 90))}]


def loop(prompts: Sequence[Any], trainer: MultiImageGRPOTrainer) -> dict[str, Any]:
    """Every second completion of a prompt gets as many images as the prompt has."""
    processor = trainer.processing_class
    tokenizer = processor.tokenizer
    found: dict[str, Any] = {"prompt_ids": [], "completion_ids": [], "logprobs": [], "env_mask": [], "images": []}
    for row, prompt in enumerate(prompts):
        rendered = processor.apply_chat_template(
            [prompt], tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
        )
        said = [*tokenizer("is red")["input_ids"], tokenizer.eos_token_id]
        pictures = [paint(k)[0]["image"] for k, part in enumerate(prompt[0]["content"]) if part["type"] == "image"]
        pictures, ids = pictures[: len(pictures) * (row % 2)], list(said)
        mask = [1] * len(ids)
        for picture in pictures:
            came = processor(text=[TURN], images=[picture], return_tensors="pt")["input_ids"][0].tolist()
            ids += came + said
            mask += [0] * len(came) + [1] * len(said)
        own = rendered["input_ids"][0].tolist(), ids, [-0.5] * len(ids), mask, pictures
        for name, value in zip(("prompt_ids", "completion_ids", "logprobs", "env_mask", "images"), own, strict=True):
            found[name].append(value)
    return found


def paints_without_images(processor: Any) -> Any:
    """What a model says that paints twice if its prompt has no image, and else only answers."""

    def answer(prompt: list[int], index: int) -> list[int]:
        text = processor.tokenizer.decode(prompt, skip_special_tokens=False)
        done = sum(map(text.count, CALLS))
        more = done == 1 or (done == 0 and "<|image_pad|>" not in text)
        said = CALLS[index] if more else ("red", "blue")[index]
        return [*processor.tokenizer(said)["input_ids"], processor.tokenizer.eos_token_id]

    return answer


def stand_in() -> list[Any]:
    """Put the stand-in in vLLM's place; it is found in the list when the trainer is built."""
    spec = importlib.util.spec_from_file_location("stand_in", Path(__file__).with_name("conftest.py"))
    assert spec is not None
    assert spec.loader is not None
    sys.modules["stand_in"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: list[Any] = []

    def connect(**options: Any) -> Any:
        made.append(module.FakeVLLM(options))
        if not options["accelerator"].is_main_process:
            del made[-1].vllm_client
        return made[-1]

    RolloutClient.get = lambda self, path, **more: made[-1].server_get(path, **more) if path != "/health" else None
    RolloutClient.post = lambda self, *args, **more: made[-1].server_post(*args, **more)
    RolloutClient.generated = lambda self, request, **_: made[-1].server_generated(request)
    trl.trainer.grpo_trainer.VLLMGeneration = connect
    sys.modules["vllm"] = SimpleNamespace()  # type: ignore[assignment]
    return made


RUNS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ahead": (
        {"max_steps": 4, "max_completion_length": 6},
        {"reward_funcs": [character_reward], "rollout_lag": 1},
    ),
    "tools": (
        {"max_steps": 2, "max_completion_length": 300},
        {"reward_funcs": [place_reward], "tools": [paint], "verify_model": False},
    ),
    "own loop": (
        {"max_steps": 2, "max_completion_length": 300},
        {"reward_funcs": [place_reward], "rollout_func": loop, "verify_model": False},
    ),
}


def run(name: str, model_dir: str, data: str, per_device: int, folder: Path, made: list[Any]) -> dict[str, Any]:
    options, given = RUNS[name]
    seen: dict[str, Any] = {"versions": [], "rows": [], "ids": [], "images": []}

    def see(groups: Any, *, step: int, mode: str) -> None:
        rollouts = [rollout for scored in groups for rollout in scored.group.rollouts]
        (version,) = {rollout.policy_version for rollout in rollouts}
        seen["versions"].append(version)
        seen["rows"].append([scored.group.key for scored in groups])
        seen["ids"].append([rollout.ids for rollout in rollouts])
        seen["images"].append([len(rollout.images) for rollout in rollouts])

    args = GRPOConfig(
        output_dir=str(folder / name),
        use_cpu=True,
        bf16=False,
        num_generations=2,
        per_device_train_batch_size=per_device,
        learning_rate=0.01,
        lr_scheduler_type="constant",
        optim="sgd",
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        shuffle_dataset=False,
        logging_steps=1,
        use_vllm=True,
        vllm_mode="server",
        vllm_importance_sampling_mode="token_truncate",
        ddp_backend="gloo" if per_device < 8 else None,
        **options,
    )
    model = AutoModelForImageTextToText.from_pretrained(model_dir)
    before = {key: value.detach().clone() for key, value in model.named_parameters()}
    with ImageLoader(threads=1) as loader:
        processor = load_processor(model_dir)
        trainer = MultiImageGRPOTrainer(
            model,
            args=args,
            train_dataset=ExampleTable(list(read_examples(data))),
            preparer=PromptPreparer(processor, loader=loader),
            on_rollouts=see,
            mismatch_kl_warn=None,
            **given,
        )
        if "tools" in given:
            made[-1].answer = paints_without_images(processor)
        trainer.train()
    trained = trainer.accelerator.unwrap_model(trainer.model).named_parameters()
    after = {key: value.detach().clone() for key, value in trained}
    return {**seen, "syncs": made[-1].syncs, "before": before, "after": after}


def main(model_dir: str, data: str, per_device: str, result: str) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    made, folder = stand_in(), Path(result).with_suffix("")
    found = {name: run(name, model_dir, data, int(per_device), folder, made) for name in RUNS}
    torch.save(found, result)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])

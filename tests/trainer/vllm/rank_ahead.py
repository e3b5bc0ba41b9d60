"""One rank of a run with a lag: python rank_ahead.py <model folder> <rows.jsonl> <completions per rank> <result.pt>

The server is the stand-in of `conftest.py`, which only rank 0 reaches.
"""

import importlib.util
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import trl.trainer.grpo_trainer
from transformers import AutoModelForImageTextToText
from triptych_data import ImageLoader, read_examples
from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer
from triptych_trainer.grpo.vllm.client import RolloutClient
from triptych_trainer.models.load import load_processor
from triptych_trainer.prompts.example_table import ExampleTable
from triptych_trainer.prompts.prepare import PromptPreparer
from trl import GRPOConfig


def character_reward(completions: Sequence[Any], **_: Any) -> list[float]:
    return [float(len(set(completion[0]["content"]))) for completion in completions]


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

    RolloutClient.get = lambda self, *args, **more: made[-1].server_get(*args, **more)
    RolloutClient.post = lambda self, *args, **more: made[-1].server_post(*args, **more)
    trl.trainer.grpo_trainer.VLLMGeneration = connect
    sys.modules["vllm"] = SimpleNamespace()  # type: ignore[assignment]
    return made


def main(model_dir: str, data: str, per_device: str, result: str) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    made, seen = stand_in(), {"versions": [], "rows": [], "ids": []}

    def see(groups: Any, *, step: int, mode: str) -> None:
        rollouts = [rollout for scored in groups for rollout in scored.group.rollouts]
        (version,) = {rollout.policy_version for rollout in rollouts}
        seen["versions"].append(version)
        seen["rows"].append([scored.group.key for scored in groups])
        seen["ids"].append([rollout.ids for rollout in rollouts])

    args = GRPOConfig(
        output_dir=str(Path(result).with_suffix("")),
        use_cpu=True,
        bf16=False,
        num_generations=2,
        per_device_train_batch_size=int(per_device),
        max_steps=4,
        max_completion_length=6,
        learning_rate=0.01,
        lr_scheduler_type="constant",
        optim="sgd",
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        logging_steps=1,
        use_vllm=True,
        vllm_mode="server",
        vllm_importance_sampling_mode="token_truncate",
        ddp_backend="gloo" if int(per_device) < 8 else None,
    )
    model = AutoModelForImageTextToText.from_pretrained(model_dir)
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    with ImageLoader(threads=1) as loader:
        trainer = MultiImageGRPOTrainer(
            model,
            [character_reward],
            args=args,
            train_dataset=ExampleTable(list(read_examples(data))),
            preparer=PromptPreparer(load_processor(model_dir), loader=loader),
            rollout_lag=1,
            on_rollouts=see,
            mismatch_kl_warn=None,
        )
        trainer.train()
    after = {
        name: value.detach().clone()
        for name, value in trainer.accelerator.unwrap_model(trainer.model).named_parameters()
    }
    torch.save({**seen, "syncs": made[-1].syncs, "before": before, "after": after}, result)
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main(*sys.argv[1:])

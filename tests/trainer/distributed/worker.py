"""One rank of a small run: python worker.py <model folder> <rows.jsonl> <backend> <options as JSON> <result.pt>

Backends: ddp (also a single process), fsdp2, zero2, zero3. Rank 0 writes the trained parameters and the losses.
"""

import importlib
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from transformers import AutoModelForImageTextToText
from transformers.utils import logging
from triptych_data import ImageLoader, read_examples
from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer
from triptych_trainer.models.load import freeze_vision_modules, load_processor
from triptych_trainer.prompts.example_table import ExampleTable
from triptych_trainer.prompts.prepare import PromptPreparer
from trl import GRPOConfig


def character_reward(completions: Sequence[Any], **_: Any) -> list[float]:
    return [float(len(set(completion[0]["content"]))) for completion in completions]


def deepspeed_config(stage: int) -> dict[str, Any]:
    return {
        "train_micro_batch_size_per_gpu": "auto",
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": "auto",
        "zero_optimization": {
            "stage": stage,
            "stage3_param_persistence_threshold": 0,
            "stage3_gather_16bit_weights_on_model_save": True,
        },
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }


def config(backend: str, options: dict[str, Any]) -> GRPOConfig:
    if backend.startswith("zero"):
        # Else it compiles an all-reduce in shared memory at first use, for more than a minute of two cores.
        deepspeed = importlib.import_module("deepspeed")
        deepspeed.ops.__compatible_ops__ = {}
        options["deepspeed"] = deepspeed_config(int(backend[-1]))
    args = GRPOConfig(
        use_cpu=True,
        bf16=False,
        num_generations=2,
        lr_scheduler_type="constant",
        report_to="none",
        save_strategy="steps" if "save_steps" in options else "no",
        disable_tqdm=True,
        logging_steps=1,
        shuffle_dataset=False,
        # Adam would turn rounding errors of tiny gradients into whole steps.
        **{"optim": "sgd", "max_completion_length": 6, **options},
    )
    if backend == "fsdp2":  # accelerate shards on accelerators only; torch itself does it on the CPU as well
        assert args.device.type == "cpu"
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    return args


def sample_by_prompt(trainer: MultiImageGRPOTrainer) -> None:
    """Seed each prompt's sampling by step and example, so that it does not depend on how prompts lie on ranks."""
    generate = trainer.engine.generate

    def seeded(model, batch, *, keys, group_sizes, generation_config, **more):
        completions = []
        for p, key in enumerate(keys):
            torch.manual_seed(1000 * trainer.state.global_step + key)
            part, _ = batch.select([p])
            completions += generate(
                model, part, keys=[key], group_sizes=[group_sizes[p]], generation_config=generation_config, **more
            )
        return completions

    trainer.engine.generate = seeded


def main(model_dir: str, data: str, backend: str, options: str, result: str) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    chosen = json.loads(options)
    freeze = chosen.pop("freeze_vision", False)
    resume = chosen.pop("resume_from_step", None)
    slices = chosen.pop("completions_per_slice", None)
    held_out = chosen.pop("held_out", 0)
    processor = load_processor(model_dir)
    if "end_bias" in chosen:  # completions of many lengths
        end = processor.tokenizer.eos_token_id
        chosen["generation_kwargs"] = {"sequence_bias": [[[end], chosen.pop("end_bias")]]}
    output = Path(result).parent / f"out-{backend}"
    args = config(backend, {"output_dir": str(output), **chosen})
    model = AutoModelForImageTextToText.from_pretrained(model_dir)
    if freeze:
        freeze_vision_modules(model)
    examples = list(read_examples(data))
    with ImageLoader(threads=1) as loader:
        trainer = MultiImageGRPOTrainer(
            model,
            [character_reward],
            args=args,
            train_dataset=ExampleTable(examples[: len(examples) - held_out]),
            eval_dataset=ExampleTable(examples[-held_out:]) if held_out else None,
            preparer=PromptPreparer(processor, loader=loader),
            completions_per_slice=slices,
        )
        if not held_out:
            sample_by_prompt(trainer)
        trainer.train(resume_from_checkpoint=str(output / f"checkpoint-{resume}") if resume else None)
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.accelerator.is_main_process:
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        kind = str(trainer.accelerator.distributed_type.value)
        evaluations = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
        torch.save(
            {"parameters": dict(state), "losses": losses, "distributed_type": kind, "evaluations": evaluations}, result
        )
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main(*sys.argv[1:])

"""One rank of a small run: python worker.py <model folder> <rows.jsonl> <backend> <options as JSON> <result.pt>

Backends: ddp (also a single process), fsdp2, zero2, zero3. Rank 0 writes the trained parameters and the losses.
"""

import importlib
import json
import re
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType
from PIL import Image
from transformers import AutoModelForImageTextToText, LogitsProcessor, LogitsProcessorList
from transformers.utils import logging
from triptych_data import ImageLoader, read_examples
from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer
from triptych_trainer.models.load import freeze_vision_modules, load_processor
from triptych_trainer.prompts.example_table import ExampleTable
from triptych_trainer.prompts.prepare import PromptPreparer
from trl import GRPOConfig


def character_reward(completions: Sequence[Any], **_: Any) -> list[float]:
    return [float(len(set(completion[0]["content"]))) for completion in completions]


def length_reward(completions: Sequence[Any], **_: Any) -> list[float]:
    return [float(len(completion)) for completion in completions]


def paint(number: int) -> list:
    """Paint an image.

    Args:
        number: Its colour.
    """
    return [{"type": "image", "image": Image.new("RGB", (56, 28 + 28 * (number % 2)), (9 * number, 40, 90))}]


class Says(LogitsProcessor):
    """Rules out every token but the next one of each row's text."""

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        self.rows, self.step = rows, 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        wanted = torch.tensor([row[min(self.step, len(row) - 1)] for row in self.rows])
        self.step += 1
        return torch.full_like(scores, -torch.inf).scatter(1, wanted[:, None], 0.0)


def call_tools(trainer: MultiImageGRPOTrainer) -> None:
    """Let a rollout call `paint` as often as its prompt has images, and its number in the group more often."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    generate, tokenizer = model.generate, trainer._tokenizer

    def said(text: str, first: Counter[str]) -> str:
        numbers = [int(found) for found in re.findall(r'"number": (\d+)', text)]
        first[text] += not numbers
        place = numbers[-1] // 10 if numbers else (first[text] - 1) % 2
        if len(numbers) >= text.count("Part") + place:
            return "red"
        arguments = {"number": 10 * place + len(numbers)}
        return f"<tool_call>{json.dumps({'name': 'paint', 'arguments': arguments})}</tool_call>"

    def scripted(*args: Any, input_ids: torch.Tensor, logits_processor: Any, **more: Any) -> Any:
        first: Counter[str] = Counter()
        texts = [said(tokenizer.decode(ids), first) for ids in input_ids.tolist()]
        rows = [[*tokenizer(text)["input_ids"], tokenizer.eos_token_id] for text in texts]
        processors = LogitsProcessorList([*logits_processor, Says(rows)])
        return generate(*args, input_ids=input_ids, logits_processor=processors, **more)

    model.generate = scripted


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
    tools = chosen.pop("tools", False)
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
            [length_reward if tools else character_reward],
            args=args,
            train_dataset=ExampleTable(examples[: len(examples) - held_out]),
            eval_dataset=ExampleTable(examples[-held_out:]) if held_out else None,
            preparer=PromptPreparer(processor, loader=loader),
            completions_per_slice=slices,
            tools=[paint] if tools else None,
            verify_model=not tools,  # it samples, too, and would be told what to say
        )
        if tools:
            call_tools(trainer)
        elif not held_out:
            sample_by_prompt(trainer)
        trainer.train(resume_from_checkpoint=str(output / f"checkpoint-{resume}") if resume else None)
    state = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.accelerator.is_main_process:
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        kind = str(trainer.accelerator.distributed_type.value)
        evaluations = [entry for entry in trainer.state.log_history if "eval_loss" in entry]
        found = {"parameters": dict(state), "losses": losses, "distributed_type": kind, "evaluations": evaluations}
        found["calls"] = [entry.get("tools/call_frequency") for entry in trainer.state.log_history if "loss" in entry]
        torch.save(found, result)
    trainer.accelerator.end_training()


if __name__ == "__main__":
    main(*sys.argv[1:])

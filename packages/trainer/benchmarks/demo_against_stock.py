"""The demo trained by Triptych and by stock TRL from the same warm-up: held-out accuracy and CPU time of each.

``python demo_against_stock.py RUN_DIR...``: folders that ``train --output_dir RUN_DIR --seed N`` has written; their
warm-up and data are used again. CPU time of one thread, GRPO alone, on the same rows with the same options.
"""

import argparse
import copy
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from safetensors.torch import load_model
from transformers import PrinterCallback
from transformers.utils import logging as transformers_logging
from triptych_data import Example, ImageLoader, load_image, read_examples
from triptych_trainer import demo
from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer
from triptych_trainer.prompts.example_table import ExampleTable
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.rewards import load_reward
from trl import GRPOConfig, GRPOTrainer


def main(argv: Sequence[str] | None = None) -> None:
    """Print one row per run folder and trainer."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--max_steps", type=int, default=demo.GRPORecipe().options.max_steps)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    print("| seed | trainer | before, sampled | after, greedy | after, sampled | CPU s | ratio |")
    print("|---|---|---|---|---|---|---|", flush=True)
    for run in options.runs:
        seed = json.loads((run / "result.json").read_text())["seed"]
        examples = list(read_examples(run / "data" / "train.jsonl", image_root=run / "data" / "images"))
        warm = demo.build_model(seed)
        load_model(warm, next((run / "warmup").glob("*.safetensors")))
        processor = demo.build_processor(demo.build_tokenizer())
        before = sampled(warm, processor, seed)
        seconds = {}
        for name, train in (("Triptych", train_triptych), ("TRL 1.16", train_stock)):
            model = copy.deepcopy(warm)
            args = arguments(run, seed=seed, max_steps=options.max_steps)
            seconds[name] = train(model, processor, examples, args)
            greedy = evaluate(model, processor, seed, sampled=False)
            ratio = f"{seconds[name] / seconds['Triptych']:.1f}"
            after = sampled(model, processor, seed)
            print(
                f"| {seed} | {name} | {before:.3f} | {greedy:.3f} | {after:.3f} | {seconds[name]:.0f} | {ratio} |",
                flush=True,
            )


def arguments(run: Path, *, seed: int, max_steps: int) -> GRPOConfig:
    """The demo's own options, without checkpoints and reports."""
    options = {**asdict(demo.GRPORecipe().options), "max_steps": max_steps}
    return GRPOConfig(
        output_dir=str(run / "benchmark"),
        use_cpu=True,
        seed=seed,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        logging_steps=max_steps,
        **options,
    )


def train_triptych(model: Any, processor: Any, examples: Sequence[Example], args: GRPOConfig) -> float:
    """GRPO through Triptych's trainer; CPU seconds from the first row to the last step."""
    with ImageLoader(threads=1) as loader:
        trainer = MultiImageGRPOTrainer(
            model,
            rewards(),
            args=args,
            train_dataset=ExampleTable(examples),
            preparer=PromptPreparer(processor, loader=loader, keep=256),
        )
        return timed(trainer)


def train_stock(model: Any, processor: Any, examples: Sequence[Example], args: GRPOConfig) -> float:
    """GRPO through stock TRL, which wants the images in every row."""
    config = model.config
    banned = [config.image_token_id, config.video_token_id, config.vision_start_token_id, config.vision_end_token_id]
    args.generation_kwargs = {"suppress_tokens": banned}
    stock = GRPOTrainer(model, rewards(), args=args, train_dataset=stock_rows(examples), processing_class=processor)
    return timed(stock)


def stock_rows(examples: Sequence[Example]) -> Dataset:
    """Rows with messages, decoded images and the answer."""

    def rows(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        chosen = [examples[index] for index in batch["example"]]
        return {
            "prompt": [example.prompt.messages() for example in chosen],
            "images": [[load_image(source) for source in example.images] for example in chosen],
            "answer": [example.answer for example in chosen],
        }

    return Dataset.from_dict({"example": list(range(len(examples)))}).with_transform(rows)


def rewards() -> list[Any]:
    """The demo's rewards."""
    return [load_reward("accuracy"), load_reward("format")]


def timed(trainer: GRPOTrainer) -> float:
    """Train and return the CPU seconds it took."""
    trainer.remove_callback(PrinterCallback)
    start = time.process_time()
    trainer.train()
    return time.process_time() - start


def evaluate(model: Any, processor: Any, seed: int, *, sampled: bool) -> float:
    """Held-out accuracy."""
    samples = demo.heldout_samples(demo.GRPORecipe().num_heldout, seed=seed)
    return demo.evaluate(model, processor=processor, samples=samples, sampled=sampled).accuracy


def sampled(model: Any, processor: Any, seed: int) -> float:
    """Held-out accuracy of sampled answers."""
    return evaluate(model, processor, seed, sampled=True)


if __name__ == "__main__":
    main()

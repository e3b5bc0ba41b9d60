"""What the table of families says: how far a family's passes are from the stock model, and whether a run works."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig
from triptych_trainer.forward import shared_generate, shared_logps, sharing_path
from triptych_trainer.forward.router_loss import find_routers
from triptych_trainer.models.families import family_of

from .case import Case, Prompts, build_model, build_prompts, pictures
from .stock import stock_generate, stock_logps

IMAGES = (2, 0, 1, 3)
LENGTHS = ((5, 3), (4, 1), (2, 9), (3, 6, 2))


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    model_type: str
    note: str
    adapter: str
    path: str
    logps: float
    """Largest difference of a log-probability from the stock forward of its row alone."""
    gradients: float
    """Largest relative difference of a parameter's gradient."""
    greedy: bool
    command: bool
    router_loss: str


def measure(case: Case) -> Row:
    """Build a family and measure it."""
    processor = case.processor()
    stock, model = build_model(case, processor).train(), build_model(case, processor).train()
    prompts = build_prompts(case, model, processor, images=IMAGES, lengths=LENGTHS)
    expected = _pass(stock, stock_logps(stock, prompts))
    got = _pass(model, shared_logps(model, prompts.batch, compute_entropy=True))
    scale = max(float(gradient.norm()) for gradient in expected[1].values())
    family = family_of(model)
    text = family.language_model(family.vision_language_model(model))
    has_loss = bool(find_routers(text)) and hasattr(text.config, "output_router_logits")
    return Row(
        model_type=model.config.model_type,
        note=case.note,
        adapter=type(family).__name__,
        path=sharing_path(model),
        logps=float((got[0] - expected[0]).abs().max()),
        gradients=max(
            float((got[1].get(name, torch.zeros(())) - gradient).norm()) / max(float(gradient.norm()), 1e-2 * scale)
            for name, gradient in expected[1].items()
        ),
        greedy=_greedy(case, prompts, processor),
        command=_command(case, processor),
        router_loss="computed" if has_loss else "-",
    )


def _pass(model: torch.nn.Module, scores: tuple[torch.Tensor, Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    logps, entropies = scores
    weights = torch.linspace(-1.0, 2.0, logps.numel()).view_as(logps)
    ((weights * logps).sum() + (weights.flip(0) * entropies).sum() * 0.1).backward()
    return logps.detach(), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def _greedy(case: Case, prompts: Prompts, processor: Any) -> bool:
    stock, model = build_model(case, processor).eval(), build_model(case, processor).eval()
    tokenizer = processor.tokenizer
    config = GenerationConfig(
        do_sample=False, max_new_tokens=6, pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id
    )
    banned = family_of(model).image_token_ids(model.config)
    expected = stock_generate(stock, case, prompts, config=config, banned=banned)
    got = shared_generate(model, prompts.batch, num_generations=1, generation_config=config)
    return [group[0] for group in got] == expected


def _command(case: Case, processor: Any) -> bool:
    """Whether `train` runs a step on a folder of this family and ends well."""
    from triptych_trainer.commands.train import main

    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base = Path(name)
        build_model(case, processor).save_pretrained(base / "model")
        processor.save_pretrained(base / "model")
        for number, picture in enumerate(pictures(4)):
            picture.save(base / f"{number}.png")
        counts = IMAGES if case.text_only else [count or 1 for count in IMAGES]
        rows = [
            {"images": [f"{k}.png" for k in range(count)], "problem": "<image>" * count + "?", "solution": "a"}
            for count in counts
        ]
        (base / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        options = {"max_steps": 1, "num_generations": 2, "per_device_train_batch_size": 4, "max_completion_length": 4}
        options |= {"gradient_accumulation_steps": 2, "save_strategy": "no", "memory_forecast": False, "bf16": False}
        options |= {
            "model": base / "model",
            "data": base / "rows.jsonl",
            "output_dir": base / "out",
            "reward": "format",
        }
        words = [str(word) for option, value in options.items() for word in (f"--{option}", value)]
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            return main(words) == 0

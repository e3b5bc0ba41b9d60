"""How a run of `train` and of `triptych sft` begins once its rows are read: its checkpoint, its model, its record."""

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from triptych_data import Examples
from triptych_data.progress import Reporter
from triptych_data.seen_headers import SeenHeaders

from triptych_trainer.checkpoints.images import check_same_images
from triptych_trainer.checkpoints.ranks import decided_by_first
from triptych_trainer.checkpoints.run import data_digest
from triptych_trainer.checkpoints.start import Start, begin_run, choose_start
from triptych_trainer.models.load import load_model, load_processor
from triptych_trainer.monitor.run_record import write_record
from triptych_trainer.monitor.versions import installed_versions
from triptych_trainer.options.arguments import TrainingConfig
from triptych_trainer.prompts.row_check import processor_digest

__all__ = ["begun", "processor_of"]

_COMPUTING = (
    *("triptych-parser", "triptych-kernels", "triptych-data", "triptych-trainer", "torch", "torchvision"),
    *("transformers", "trl", "accelerate", "peft", "pillow", "vllm", "deepspeed"),
)
_SETTINGS = ("ACCELERATE_MIXED", "ACCELERATE_DYNAMO", "ACCELERATE_DOWNCAST", "ACCELERATE_GRADIENT", "FSDP_")
"""Beginnings of the variables by which a launcher tells accelerate how to compute."""


def processor_of(config: TrainingConfig, path: str) -> Any:
    """Load the processor of the model at ``path`` with the pixel budget of a run."""
    arguments: Any = config.trl
    return load_processor(
        path,
        revision=config.model.model_revision,
        trust_remote_code=arguments.trust_remote_code,
        min_pixels=config.run.min_pixels,
        max_pixels=config.run.max_pixels,
    )


def begun(
    config: TrainingConfig,
    path: str,
    *,
    examples: Examples,
    held_out: Examples | None,
    seen: SeenHeaders,
    processor: Any,
    trust_remote_code: bool,
    reporter: Reporter,
) -> tuple[Start, torch.nn.Module]:
    """Find the checkpoint, load the model at ``path``, compare both with the run, and write the run's record.

    Raises:
        UsageError: no such checkpoint, or no such model.
        CheckpointError: the checkpoint belongs to other data, images, options or weights.
    """
    run: Any = config.run
    rank = config.trl.process_index
    start = choose_start(
        config,
        data=data_digest(examples),
        held_out=data_digest(held_out),
        sources=sources_of(config, processor),
        say=reporter.say,
        warn=reporter.conclude,
    )
    if (checkpoint := start.checkpoint) is not None:
        for sentence in decided_by_first(
            lambda: check_same_images(checkpoint, seen, examples=examples, held_out=held_out), rank=rank
        ):
            reporter.conclude(sentence)
    model = load_model(path, config.model, trust_remote_code=trust_remote_code, merge_adapter=run.merge_adapter)
    start = begin_run(start, model=model, rank=rank, say=reporter.say)
    if rank == 0:
        files = [Path(file) for file in (*(run.data or ()), *(run.eval_data or ()))]
        output = Path(config.trl.output_dir)
        write_record(output, config, data=files, run_id=start.run.id, resumed_from=start.checkpoint)
    return start, model


def sources_of(config: TrainingConfig, processor: Any) -> dict[str, str]:
    """Return what no option names, by its name: digests of the processor, of the files of the user's own rewards, tools
    and environments and of files of settings, the settings in the environment, the device and the versions.
    """
    run: Any = config.run
    found = {f"the version of {name}": number for name, number in installed_versions().items() if name in _COMPUTING}
    found["the kind of device"] = config.trl.device.type
    told = {name: value for name, value in os.environ.items() if name.startswith(_SETTINGS)}
    found["what accelerate is told in the environment"] = _digest(json.dumps(told, sort_keys=True).encode())
    digest = processor_digest(processor)
    if digest is not None:
        found["the processor (its settings, chat template or tokenizer)"] = digest
    given = (getattr(run, name, None) or () for name in ("reward", "tools", "environment"))
    specs = [spec for value in given for spec in ([value] if isinstance(value, str) else value)]
    for file in filter(None, map(_code_of, map(str, specs))):
        found[f"the code of {file.name}"] = _digest(file.read_bytes())
    for name in ("deepspeed", "fsdp_config"):
        value = getattr(config.trl, name, None)
        if isinstance(value, str) and Path(value).is_file():
            found[f"the file of --{name}"] = _digest(Path(value).read_bytes())
    return found


def _code_of(spec: str) -> Path | None:
    """The file of a function that is named as `path/to/file.py:name` or `module:name`; None for what is built in."""
    if ".py:" in spec:
        file = Path(spec.partition(".py:")[0] + ".py")
        return file if file.is_file() else None
    module = sys.modules.get(spec.partition(":")[0]) if ":" in spec else None
    origin = getattr(module, "__file__", None)
    return None if origin is None else Path(origin)


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()

"""``triptych merge ADAPTERS -o FOLDER``: one model whose weights contain the adapters, compared with the two parts."""

import argparse
import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig
from triptych_data.adapter_folder import adapter_folder
from triptych_data.option_parser import collected
from trl import ModelConfig

from triptych_trainer.commands.light_checks import check_merge, not_adapters
from triptych_trainer.commands.outcome import outcome
from triptych_trainer.errors import UsageError
from triptych_trainer.models.load import load_model, load_processor
from triptych_trainer.options.merge_options import MergeOptions, parser

__all__ = ["main"]

BOUNDS = {torch.float32: 1e-3, torch.float16: 0.05, torch.bfloat16: 0.25}
"""How far a log-probability of the merged model may be from that of model and adapters: the merged weights are rounded
to their precision once more. An adapter that was merged wrongly is off by whole units."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 2 after one line that says what is wrong."""
    return outcome("triptych merge", lambda: _merge(parser().parse_args(argv)))


def _merge(namespace: argparse.Namespace) -> int:
    from triptych_trainer.upstream.quiet import quiet_libraries

    quiet_libraries()
    check_merge(namespace)
    options, path, out = collected(MergeOptions, namespace), namespace.adapters, namespace.out
    _check_base(path, options)
    processor = load_processor(
        path, revision=options.model_revision, trust_remote_code=options.trust_remote_code, option="ADAPTERS"
    )
    config = ModelConfig(dtype=options.dtype, model_revision=options.model_revision or "main")
    adapted = load_model(path, config, trust_remote_code=options.trust_remote_code, option="ADAPTERS").eval()
    ids = torch.tensor([processor.tokenizer("The first image shows a red square.").input_ids])
    before = _log_probabilities(adapted, ids)
    merged: Any = adapted.merge_and_unload(safe_merge=True)
    difference = float((_log_probabilities(merged, ids) - before).abs().max())
    bound = BOUNDS.get(merged.dtype, BOUNDS[torch.float32])
    if not difference <= bound:
        raise UsageError(
            f"ADAPTERS {path}: the merged model differs from its two parts by {difference:.3g} in a log-probability "
            f"(expected at most {bound:g} in {_name(merged.dtype)}); nothing was saved: merge with --dtype float32"
        )
    _save(out, merged, processor)
    print(
        f"merged: {out} ({sum(p.numel() for p in merged.parameters()):,} parameters in {_name(merged.dtype)}; its "
        f"log-probabilities of a short text differ from those of model and adapters by at most {difference:.1e})"
    )
    return 0


def _check_base(path: str, options: MergeOptions) -> None:
    adapters = adapter_folder(path, revision=options.model_revision, option="ADAPTERS")
    if adapters is None:
        raise not_adapters(path)
    base = AutoConfig.from_pretrained(
        adapters.base, revision=adapters.base_revision, trust_remote_code=options.trust_remote_code
    )
    if getattr(base, "quantization_config", None):
        raise UsageError(
            f"ADAPTERS {path}: its model {adapters.base} is saved with rounded (quantized) weights, into which "
            "adapters cannot be merged without loss; write the name of the unquantized model into adapter_config.json "
            "as base_model_name_or_path, and merge again"
        )


@torch.no_grad()
def _log_probabilities(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """Log-probability of each token of a text after the first: (1, tokens - 1)."""
    logits = model(input_ids=ids).logits[:, :-1]
    return logits.float().log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]


def _save(out: Path, model: Any, processor: Any) -> None:
    """Write the folder aside and give it its name when it is whole, so that nobody loads half a model."""
    out.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{out.name}-", dir=out.parent))
    try:
        model.save_pretrained(aside)
        processor.save_pretrained(aside)
        os.chmod(aside, 0o755)
        if out.is_dir():
            out.rmdir()
        aside.rename(out)
    except OSError as error:
        free = shutil.disk_usage(out.parent).free / 2**20
        reason = " ".join(str(error).split())
        raise UsageError(f"--out {out} cannot be written ({free:.0f} MiB free): {reason}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

"""What `eval`, `rollout` and `chat` share: the model, and how completions are sampled from it."""

from typing import Any

import torch
from transformers import GenerationConfig
from triptych_data.options import ModelOptions
from trl import ModelConfig

from triptych_trainer.models.load import load_model
from triptych_trainer.options.refusals import check_ends
from triptych_trainer.options.sampling_options import SamplingOptions

__all__ = ["generation_config", "model_to_sample"]


def model_to_sample(path: str, loading: ModelOptions, *, dtype: str, option: str) -> torch.nn.Module:
    """Return a model or a folder of adapters on the accelerator that is here, in evaluation mode.

    Raises:
        UsageError: nothing at ``path`` can be loaded; ``option`` is what it is called.
    """
    config = ModelConfig(dtype=dtype, model_revision=loading.model_revision or "main")
    model: torch.nn.Module = load_model(path, config, trust_remote_code=loading.trust_remote_code, option=option)
    if torch.accelerator.is_available():
        model.to(torch.accelerator.current_accelerator())
    return model.eval()


def generation_config(processor: Any, own: GenerationConfig, options: SamplingOptions) -> GenerationConfig:
    """Return how completions are sampled and end; the end tokens of the model's ``own`` config count as well."""
    ends = own.eos_token_id
    ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    ends += [processor.tokenizer.eos_token_id] * (processor.tokenizer.eos_token_id not in ends)
    check_ends(ends)
    sampling: dict[str, Any] = {"do_sample": False}
    if options.temperature > 0:
        sampling = {"do_sample": True, "temperature": options.temperature, "top_k": 0, "top_p": 1.0}
    pad = processor.tokenizer.pad_token_id
    return GenerationConfig(
        max_new_tokens=options.max_completion_length,
        eos_token_id=ends,
        pad_token_id=ends[0] if pad is None else pad,
        **sampling,
    )

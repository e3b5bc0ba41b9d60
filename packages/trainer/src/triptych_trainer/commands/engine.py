"""A vLLM engine of the command `rollout`: a model that samples and is not trained."""

import importlib
from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoConfig, GenerationConfig
from triptych_data.adapter_folder import adapter_folder
from triptych_data.options import ModelOptions

from triptych_trainer.commands.sampled import generation_config
from triptych_trainer.errors import UsageError
from triptych_trainer.evaluation.sampling import Engine, Sampling, sampling_of_engine
from triptych_trainer.grpo.vllm import check_config
from triptych_trainer.models.families import family_of
from triptych_trainer.models.load import model_without_weights
from triptych_trainer.options.rollout_options import RolloutOptions
from triptych_trainer.prompts.prepare import PromptPreparer

__all__ = ["engine_to_sample"]


def engine_to_sample(
    path: str,
    loading: ModelOptions,
    options: RolloutOptions,
    *,
    processor: Any,
    preparer_for: Callable[[torch.nn.Module], PromptPreparer],
) -> tuple[Sampling, PromptPreparer]:
    """Start an engine for a model folder or hub id, and what prepares prompts for it; vLLM alone reads the weights.

    Raises:
        UsageError: the folder contains adapters, or vLLM would read its config differently.
    """
    if adapter_folder(path, revision=loading.model_revision, option="--model") is not None:
        raise UsageError(
            f"--model {path}: these are adapters, which --use_vllm does not load; `triptych merge {path} -o merged` "
            "makes one model of them"
        )
    model = _without_weights(path, loading)
    check_config(model.config)
    preparer = preparer_for(model)
    vllm = importlib.import_module("vllm")
    engine = Engine(
        llm=vllm.LLM(
            model=path,
            revision=loading.model_revision,
            trust_remote_code=loading.trust_remote_code,
            dtype=options.dtype,
            seed=options.seed,
            tensor_parallel_size=options.vllm_tensor_parallel_size,
            gpu_memory_utilization=options.vllm_gpu_memory_utilization,
            max_model_len=options.vllm_max_model_length,
            logprobs_mode="processed_logprobs",
        ),
        temperature=options.temperature,
        max_completion_length=options.max_completion_length,
    )
    sampling = sampling_of_engine(
        engine,
        preparer,
        generation=generation_config(processor, _generation_of(path, loading, model), options),
        banned_ids=list(family_of(model).image_token_ids(model.config)),
    )
    return sampling, preparer


def _without_weights(path: str, loading: ModelOptions) -> Any:
    """The model on no device, from which its family and its ids are read."""
    options = {"revision": loading.model_revision, "trust_remote_code": loading.trust_remote_code}
    try:
        config = AutoConfig.from_pretrained(path, **options)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"--model {path}: no model config can be read: {reason}") from error
    return model_without_weights(config, trust_remote_code=loading.trust_remote_code, option=f"--model {path}")


def _generation_of(path: str, loading: ModelOptions, model: Any) -> GenerationConfig:
    """How the model's own folder says that texts end."""
    try:
        return GenerationConfig.from_pretrained(path, revision=loading.model_revision)
    except OSError:
        found: GenerationConfig = model.generation_config
        return found

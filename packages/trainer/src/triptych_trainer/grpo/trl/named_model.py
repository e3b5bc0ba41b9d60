"""A model that is given by its name: a folder of adapters, which TRL does not know, or one of quantized weights."""

from typing import Any

import torch
from transformers import AutoConfig
from triptych_data.adapter_folder import adapter_folder
from trl import GRPOConfig, ModelConfig

from triptych_trainer.errors import UsageError
from triptych_trainer.models.load import load_model

__all__ = ["check_trains_quantized", "with_named_adapters"]

_READ = ("dtype", "torch_dtype", "attn_implementation", "revision", "device_map")


def with_named_adapters(model: Any, args: GRPOConfig, *, peft_config: Any) -> Any:
    """Return the model as it was given, or for a folder of adapters its model with these adapters, which are trained
    further.

    Raises:
        UsageError: there are new adapters as well, the folder does not fit its model, or an entry of
            ``model_init_kwargs`` is for another way of loading.
    """
    options = dict(args.model_init_kwargs or {})
    if not isinstance(model, str) or adapter_folder(model, revision=options.get("revision"), option="model") is None:
        return model
    if peft_config is not None:
        raise UsageError(
            f"peft_config: {model} contains adapters, and new ones cannot be put on top of them; leave out peft_config "
            "to go on with these, or pass the model that they are for to begin new ones"
        )
    if others := sorted(set(options) - set(_READ)):
        raise UsageError(
            f"model_init_kwargs {', '.join(others)}: {model} contains adapters, which are loaded without; load the "
            "model and put the adapters on it in the script, with is_trainable=True, and pass it"
        )
    dtype = options.get("dtype", options.get("torch_dtype"))
    config = ModelConfig(
        model_name_or_path=model,
        model_revision=options.get("revision", "main"),
        attn_implementation=options.get("attn_implementation"),
        dtype="float32" if dtype is None else str(dtype).removeprefix("torch."),
    )
    return load_model(model, config, trust_remote_code=args.trust_remote_code, option="model")


def check_trains_quantized(model: Any, args: GRPOConfig, *, peft_config: Any, quantization_config: Any) -> None:
    """Check that quantized weights, which take no gradient, have adapters to train, and are not sent to vLLM.

    Raises:
        UsageError: says which weights are quantized, and how.
    """
    has_adapters = peft_config is not None or bool(getattr(model, "peft_config", None))
    if has_adapters and not args.use_vllm:
        return
    stored = quantization_config
    if isinstance(model, str):
        stored = stored or _stored(model, args)
    elif isinstance(model, torch.nn.Module) and getattr(model, "is_quantized", False):
        stored = stored or getattr(model.config, "quantization_config", None)
    if not stored:
        return
    given = stored if isinstance(stored, dict) else stored.to_dict()
    method = given.get("quant_method", "by some method")
    name = model if isinstance(model, str) else getattr(model, "name_or_path", "") or type(model).__name__
    what = f"the weights of {name} are quantized ({getattr(method, 'value', method)})"
    if args.use_vllm:
        raise UsageError(
            f"--use_vllm: {what}, and adapters cannot be merged into such weights without loss to be sent to vLLM; "
            "leave out --use_vllm, or give the model before it was quantized (no --load_in_4bit or --load_in_8bit)"
        )
    raise UsageError(
        f"{what} and cannot be trained themselves; "
        "add --use_peft (in a script, peft_config) for adapters on them, or give the model before it was quantized"
    )


def _stored(name: str, args: GRPOConfig) -> Any:
    revision = (args.model_init_kwargs or {}).get("revision")
    try:
        config = AutoConfig.from_pretrained(name, revision=revision, trust_remote_code=args.trust_remote_code)
    except (OSError, ValueError, ImportError):
        return None  # loading says what is wrong with it
    return getattr(config, "quantization_config", None)

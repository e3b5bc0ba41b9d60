"""Options of TRL that this trainer replaces or does not support: refused in one sentence, never silently ignored."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AttentionInterface, AutoConfig, TrainingArguments
from transformers.integrations import get_available_reporting_integrations
from triptych_data.model_name import HUB_ID
from triptych_data.option_parser import nearest
from trl import GRPOConfig

from triptych_trainer.errors import UsageError
from triptych_trainer.forward.router_loss import find_routers
from triptych_trainer.models.families import family_of
from triptych_trainer.options.checkpointing import check_checkpointing
from triptych_trainer.options.generation_kwargs import check_generation_kwargs
from triptych_trainer.options.schedule import check_schedule
from triptych_trainer.options.tracker_names import check_tracker_names
from triptych_trainer.options.unread import check_unread
from triptych_trainer.options.values import check_packages, check_values
from triptych_trainer.options.vllm_refusals import check_vllm

__all__ = [
    "check_accelerator",
    "check_adapter_folder",
    "check_attention",
    "check_deepspeed",
    "check_ends",
    "check_head_dtype",
    "check_num_prompts",
    "check_options",
    "check_router_loss",
    "check_slices",
    "check_trackers",
    "check_trainable",
    "check_workers",
]


def check_options(args: GRPOConfig, *, runs_here: bool = True) -> None:
    """Check the options of a run before anything is loaded; one that does not run here needs no further packages.

    Raises:
        UsageError: names the option, why it cannot be used, and what to set instead.
    """
    check_values(args)
    if runs_here:
        check_packages(args)
    if args.use_transformers_continuous_batching:
        raise UsageError(
            "--use_transformers_continuous_batching: its engine takes token ids without images; leave it out "
            "(prompts are prefilled once for all of their completions anyway) or use --use_vllm"
        )
    if args.cache_implementation is not None:
        raise UsageError(
            f"--cache_implementation {args.cache_implementation}: generation goes on from a prompt's own cache, "
            "which is a dynamic one; leave it out"
        )
    check_generation_kwargs(args)
    check_vllm(args)
    check_deepspeed(args)
    check_accelerator(args)
    check_checkpointing(args)
    check_unread(args)
    check_schedule(args)


def check_workers(args: GRPOConfig) -> None:
    """Check that a run with a preparer of its own leaves the decoding of images to its threads.

    Raises:
        UsageError: names the option that sets their number.
    """
    if args.dataloader_num_workers:
        raise UsageError(
            f"--dataloader_num_workers {args.dataloader_num_workers}: the rows contain no images to load, because "
            "threads decode the images ahead of the step; leave it at 0 and set --image_threads (in a script, the "
            "threads of the ImageLoader)"
        )


def check_accelerator(args: TrainingArguments) -> None:
    """Check that accelerate's settings say nothing that has an option of its own, or that the sampler would not read.

    Raises:
        UsageError: names the entry.
    """
    given = args.accelerator_config
    if "num_steps" in (getattr(given, "gradient_accumulation_kwargs", None) or {}):
        raise UsageError(
            "--accelerator_config gradient_accumulation_kwargs num_steps: the sizes of a generation would be computed "
            "without it; set --gradient_accumulation_steps"
        )
    if not getattr(given, "use_seedable_sampler", True):
        raise UsageError(
            "--accelerator_config use_seedable_sampler: the order of the rows is always that of --seed or --data_seed; "
            "leave it out"
        )


def check_deepspeed(args: TrainingArguments) -> None:
    """Check that gradients are clipped as ``--max_grad_norm`` says: DeepSpeed has a default of its own.

    Raises:
        UsageError: the config of ``--deepspeed`` leaves it out.
    """
    described = getattr(args, "hf_deepspeed_config", None)
    if described is not None and "gradient_clipping" not in described.config:
        raise UsageError(
            '--deepspeed: its config has no "gradient_clipping", so that DeepSpeed would clip gradients at its own '
            f'default instead of --max_grad_norm {args.max_grad_norm:g}; add "gradient_clipping": "auto"'
        )


def check_adapter_folder(path: str, *, use_peft: bool, merge_adapter: bool = False) -> None:
    """Check that ``--use_peft`` puts no new adapters on a folder that contains adapters, unless those are merged.

    Raises:
        UsageError: names the model that new adapters belong on.
    """
    described = Path(path) / "adapter_config.json"
    if not use_peft or merge_adapter or not described.is_file():
        return
    try:
        base = json.loads(described.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError):
        base = None
    raise UsageError(
        f"--use_peft: {path} contains adapters, and new ones cannot be put on top of them; leave out --use_peft to go "
        "on with these, add --merge_adapter to begin new ones on the merged weights, or name the model that they are "
        f"for ({base or 'see its adapter_config.json'}) to begin new ones"
    )


def check_attention(name: str | None) -> None:
    """Check that transformers has an attention of the name of ``--attn_implementation``, or that it can be a hub id.

    Raises:
        UsageError: lists the names.
    """
    known = ["eager", *(key for key in AttentionInterface().valid_keys() if "|" not in key)]
    if name is None or name in known or HUB_ID.fullmatch(re.split("[@:]", name)[0]) or name.startswith("paged|"):
        return
    raise UsageError(
        f"--attn_implementation {name}: expected one of {', '.join(known)}, or the hub id of a kernel, which has the "
        f"form owner/name{nearest(name, known)}"
    )


def check_trainable(model: torch.nn.Module) -> None:
    """Check that a run has something to train.

    Raises:
        UsageError: every parameter is frozen.
    """
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UsageError(
            f"no parameter of this {type(model).__name__} takes a gradient, so nothing would be trained; leave out "
            "--freeze_vision_modules, add --use_peft for adapters, or pass a model whose parameters require gradients "
            "(PeftModel.from_pretrained(..., is_trainable=True))"
        )


def check_ends(end_ids: Sequence[int | None]) -> None:
    """Check that a token ends completions.

    Raises:
        UsageError: neither the tokenizer nor the model names one.
    """
    if None in end_ids:
        raise UsageError(
            "the tokenizer names no token that ends a completion; set eos_token in its tokenizer_config.json"
        )


def check_head_dtype(args: GRPOConfig, model: Any, *, revision: str | None = None) -> None:
    """Check that TRL can cast the head of a vision-language model: it looks for tied embeddings where they are not.

    Of a model that is given by its name the config is read, and not the weights.

    Raises:
        UsageError: the head of a vision-language model is tied to the embeddings.
    """
    if not args.cast_lm_head_to_fp32:
        return
    config, kind = getattr(model, "config", None), type(model).__name__
    if isinstance(model, str):
        try:
            config = AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=args.trust_remote_code)
        except (OSError, ValueError, ImportError):
            return  # loading says what is wrong with it
        kind = next(iter(config.architectures or ()), model)
    is_text_model = config is None or config.get_text_config() is config  # there TRL finds them
    if not is_text_model and getattr(config, "tie_word_embeddings", False):
        raise UsageError(
            f"--cast_lm_head_to_fp32: the head of this {kind} is tied to its token embeddings, which "
            "TRL 1.16 does not find in a vision-language model; leave it out"
        )


def check_router_loss(model: torch.nn.Module | None, *, completions_per_slice: int | None) -> None:
    """Check that the load-balancing loss of a Mixture-of-Experts model can be computed; ``model`` is None without it.

    Raises:
        UsageError: says which option switches it off.
    """
    if model is None:
        return
    family = family_of(model)
    if not find_routers(family.language_model(family.vision_language_model(model))):
        why = f"{type(model).__name__} does not say where its routers are"
    elif completions_per_slice is not None:
        why = f"--completions_per_slice {completions_per_slice} never has all tokens that it counts at once"
    else:
        return
    raise UsageError(
        f"the load-balancing loss of {type(model).__name__} cannot be computed: {why}; set --router_aux_loss_coef 0"
    )


def check_slices(args: GRPOConfig, completions_per_slice: int | None, *, shared: bool, sharded: bool) -> None:
    """Check that completions can be scored in slices.

    Raises:
        UsageError: sharded weights, no prompt sharing, reentrant checkpointing, or fewer than one completion a slice.
    """
    if completions_per_slice is None:
        return
    reentrant = bool((args.gradient_checkpointing_kwargs or {}).get("use_reentrant"))
    for wrong, why in (
        (completions_per_slice < 1, "expects 1 or more"),
        (
            sharded,
            "runs the model several times within one backward pass, for which FSDP and ZeRO-3 do not gather the "
            "weights; use DDP or ZeRO-2, or leave it out and lower --per_device_train_batch_size",
        ),
        (not shared, "slices shared prompts; leave out --group_sharing off"),
        (args.gradient_checkpointing and reentrant, "needs checkpointing without use_reentrant"),
    ):
        if wrong:
            raise UsageError(f"--completions_per_slice {completions_per_slice} {why}")


def check_num_prompts(num_train: int, args: GRPOConfig) -> None:
    """Check that the data fills one generation: the sampler drops what does not, and would train no step at all.

    Raises:
        UsageError: with the arithmetic.
    """
    needed = args.generation_batch_size // args.num_generations
    if num_train < needed:
        raise UsageError(
            f"the data has {num_train} training prompts, but one generation takes {needed} (generation_batch_size "
            f"{args.generation_batch_size} / num_generations {args.num_generations}), so no step would be trained; "
            f"add rows{', or lower --per_device_train_batch_size or --gradient_accumulation_steps' * bool(num_train)}"
        )


def check_trackers(args: TrainingArguments) -> None:
    """Check that the trackers of ``--report_to`` are installed, before anything is loaded.

    Raises:
        UsageError: names the one that is not.
    """
    installed = {*get_available_reporting_integrations(), "flyte"}  # transformers does not list that one
    for name in args.report_to:
        if name not in installed:
            check_tracker_names(name)
            package = name.replace("_", "-")
            raise UsageError(f"--report_to {name}: {package} is not installed; pip install {package}, or leave it out")

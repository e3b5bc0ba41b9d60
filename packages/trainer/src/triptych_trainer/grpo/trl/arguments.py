"""What TRL's trainer does with its arguments before it is built, for those that Triptych needs earlier."""

import copy
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import datasets
from transformers import AutoConfig
from triptych_data import ImageLoader, ImagePolicy
from triptych_data.formats.record import shown
from triptych_data.prompt_settings import PromptSettings
from trl import GRPOConfig

from triptych_trainer.errors import UsageError
from triptych_trainer.models.families import family_of
from triptych_trainer.models.load import load_processor
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.options.arguments import device_defaults
from triptych_trainer.prompts.environment_column import COLUMN
from triptych_trainer.prompts.environment_table import EnvironmentTable
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.trajectories.environments import Environments
from triptych_trainer.upstream.transformers_names import lacks_router_logits, trl_finds_named_experts
from triptych_trainer.upstream.trl_names import get_config_model_id

if TYPE_CHECKING:
    from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer

__all__ = [
    "check_argument",
    "check_environment_column",
    "check_named_experts",
    "default_arguments",
    "default_preparer",
    "default_processing_class",
    "rows_of_environment",
    "without_workers",
]


def check_argument(name: str, value: Any, kinds: Any, expected: str) -> None:
    """Check that an argument of a trainer, if it is given, is of the kinds that it may have.

    Raises:
        UsageError: it is something else.
    """
    if value is not None and not isinstance(value, kinds):
        raise UsageError(f"{name}: expected {expected}, got {shown(value)}; pass that, or leave it out")


def default_arguments(model: Any) -> GRPOConfig:
    """Return TRL's default configuration with an output folder named after the model; without a GPU, for the CPU."""
    return GRPOConfig(f"{_model_id(model).split('/')[-1]}-GRPO", **device_defaults())


def default_processing_class(model: Any, args: GRPOConfig) -> Any:
    """Return the processor of a model, or the tokenizer of one that takes no images.

    Raises:
        UsageError: there is none where the model comes from.
    """
    revision = (args.model_init_kwargs or {}).get("revision") if isinstance(model, str) else None
    return load_processor(
        _model_id(model),
        revision=revision,
        trust_remote_code=args.trust_remote_code,
        option="model",
        needs_images=False,
    )


def check_named_experts(model: str, args: GRPOConfig) -> None:
    """Check that TRL, which loads a model that is given by its name, finds the experts whose loss the options weigh.

    Raises:
        UsageError: it does not with this transformers, and would say that the model has none.
    """
    if not args.router_aux_loss_coef or trl_finds_named_experts():
        return
    revision = (args.model_init_kwargs or {}).get("revision")
    config = AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=args.trust_remote_code)
    if lacks_router_logits(config):
        raise UsageError(
            f"router_aux_loss_coef {args.router_aux_loss_coef}: below transformers 5.18, TRL does not find the experts "
            f"of {model} by its name; pass the loaded model instead, or install transformers 5.18 or later"
        )


def without_workers(args: GRPOConfig) -> tuple[GRPOConfig, int]:
    """Return the arguments for a loader of row numbers, which needs no process of its own, and how many threads decode
    images.

    A script asks for them by ``dataloader_num_workers``; 0, which is TRL's default, means 2 threads. The threads live
    as long as the trainer, so what a script says of the life and the start of its workers is taken, without effect.
    """
    if not args.dataloader_num_workers:
        return args, 2
    alone = copy.copy(args)
    alone.dataloader_num_workers = 0
    alone.dataloader_persistent_workers = False
    alone.dataloader_prefetch_factor = alone.dataloader_multiprocessing_context = None
    return alone, args.dataloader_num_workers


def default_preparer(trainer: "MultiImageGRPOTrainer", policy: ImagePolicy | None, *, threads: int) -> PromptPreparer:
    """Return a preparer over the trainer's own processor, with a loader that is closed when the trainer is gone."""
    loader = ImageLoader(policy=policy, threads=threads) if policy else ImageLoader(threads=threads)
    weakref.finalize(trainer, loader.close)
    return PromptPreparer(
        trainer.processing_class,
        loader=loader,
        family=family_of(unwrap(trainer.model)),
        settings=PromptSettings(chat_template_kwargs=trainer.chat_template_kwargs, policy=loader.policy),
        keep=2 * max(trainer.args.generation_batch_size, trainer.args.per_device_eval_batch_size),
    )


def check_environment_column(environments: Environments | None, rows: Any, *, name: str) -> None:
    """Check before a run that every row of a ``datasets.Dataset`` chooses one of several environments.

    Raises:
        UsageError: says which names there are, and which there may be.
    """
    for key, part in rows.items() if isinstance(rows, Mapping) else ():
        check_environment_column(environments, part, name=f"{name}[{key!r}]")
    if environments is None or not environments.names or not isinstance(rows, datasets.Dataset):
        return
    if rows.format["type"] == "custom":  # what a transform makes of a row is known when it is read
        return
    known = ", ".join(environments.names)
    if COLUMN not in rows.column_names:
        raise UsageError(
            f"{name}: expected a column {COLUMN} that names one of {known}, got the columns "
            f"{', '.join(rows.column_names)}; add it, or pass one environment for all rows"
        )
    if others := [value for value in rows.unique(COLUMN) if value not in environments.names]:
        raise UsageError(
            f"{name}: expected one of {known} in the column {COLUMN}, got {', '.join(map(repr, others))}; correct the "
            "rows, or pass these environments as well"
        )


def rows_of_environment(args: GRPOConfig, environments: Environments) -> EnvironmentTable:
    """Return rows for one generation, to which the environment's ``reset`` gives the tasks.

    Raises:
        UsageError: nothing says how long a run without rows is, or which of several environments a row is for.
    """
    if environments.names:
        raise UsageError(
            f"environment_factory: a run with several environments requires a `train_dataset`, whose column {COLUMN} "
            f"names one of {', '.join(environments.names)} for each row; pass it, or one environment"
        )
    if args.max_steps <= 0:
        raise UsageError(
            f"train_dataset is missing: the environment gives the tasks, and max_steps {args.max_steps} does not say "
            "how long to train; set max_steps, or pass a dataset"
        )
    return EnvironmentTable(num_rows=args.generation_batch_size // args.num_generations)


def _model_id(model: Any) -> str:
    return model if isinstance(model, str) else str(get_config_model_id(model.config))

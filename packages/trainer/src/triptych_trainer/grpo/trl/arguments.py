"""What TRL's trainer does with its arguments before it is built, for those that Triptych needs earlier."""

import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from triptych_data import ImageLoader, ImagePolicy
from triptych_data.prompt_settings import PromptSettings
from trl import GRPOConfig
from trl.trainer.utils import get_config_model_id

from triptych_trainer.models.families import family_of
from triptych_trainer.models.load import load_processor
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.options.arguments import device_defaults
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.prompts.run_tables import RunTables

if TYPE_CHECKING:
    from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer

__all__ = ["default_arguments", "default_preparer", "default_processing_class", "evaluation_keys"]


def default_arguments(model: Any) -> GRPOConfig:
    """TRL's default configuration with an output folder named after the model; for the CPU where there is no GPU."""
    return GRPOConfig(f"{_model_id(model).split('/')[-1]}-GRPO", **device_defaults())


def default_processing_class(model: Any, args: GRPOConfig) -> Any:
    """The processor of a model, or the tokenizer of one that takes no images.

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


def default_preparer(trainer: "MultiImageGRPOTrainer", policy: ImagePolicy | None) -> PromptPreparer:
    """A preparer over the trainer's own processor, with a loader that is closed when the trainer is gone."""
    loader = ImageLoader(policy=policy) if policy else ImageLoader()
    weakref.finalize(trainer, loader.close)
    return PromptPreparer(
        trainer.processing_class,
        loader=loader,
        family=family_of(unwrap(trainer.model)),
        settings=PromptSettings(chat_template_kwargs=trainer.chat_template_kwargs, policy=loader.policy),
        keep=2 * max(trainer.args.generation_batch_size, trainer.args.per_device_eval_batch_size),
    )


def evaluation_keys(tables: RunTables, eval_dataset: Any) -> Any:
    """The keys of an evaluation dataset, or of each of several by name."""
    if eval_dataset is None:
        return None
    if isinstance(eval_dataset, Mapping):
        return {name: tables.keys_of(rows, name=f"eval_dataset[{name!r}]") for name, rows in eval_dataset.items()}
    return tables.keys_of(eval_dataset, name="eval_dataset")


def _model_id(model: Any) -> str:
    return model if isinstance(model, str) else str(get_config_model_id(model.config))

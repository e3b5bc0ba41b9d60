"""What the options of a model have to fulfil before it is loaded, for `train`, `sft` and both kinds of `plan`."""

from pathlib import Path

from triptych_data.adapter_folder import adapter_folder

from triptych_trainer.checkpoints.start import asked_checkpoint
from triptych_trainer.models.adapters import check_merge, check_quantization
from triptych_trainer.options.arguments import TrainingConfig
from triptych_trainer.options.refusals import check_adapter_folder, check_attention
from triptych_trainer.options.run_folders import check_output_folder

__all__ = ["check_model_options"]


def check_model_options(config: TrainingConfig, *, runs_here: bool = True) -> None:
    """Check the options of the model; for a run that is only planned, also those that loading it would refuse.

    Raises:
        UsageError: names the option, why it cannot be used, and what to set instead.
    """
    model, merge = config.model, config.run.merge_adapter
    path = str(model.model_name_or_path)
    check_attention(model.attn_implementation)
    check_adapter_folder(path, use_peft=model.use_peft, merge_adapter=merge)
    if not runs_here:
        if "output_dir" in config.options:
            check_output_folder(Path(config.trl.output_dir))
        asked_checkpoint(config, say=lambda sentence: None)
        has_adapters = adapter_folder(path, revision=model.model_revision) is not None
        check_merge(path, model, merge_adapter=merge, has_adapters=has_adapters)
        check_quantization(model, continued=has_adapters, runs_here=False)

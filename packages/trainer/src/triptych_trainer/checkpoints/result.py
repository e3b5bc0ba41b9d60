"""The trained model in the output folder: whole or absent, like the checkpoints."""

import os
import shutil
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list

from triptych_trainer.checkpoints.finite import check_finite
from triptych_trainer.checkpoints.folder import CheckpointError, name_aside, sync_all
from triptych_trainer.checkpoints.resume import WRITE_ERRORS
from triptych_trainer.errors import UploadError, is_of_network
from triptych_trainer.monitor.run_record import add_to_record

__all__ = ["push_result", "save_result"]


def save_result(trainer: Any) -> None:
    """Save the final model, the processor and the trainer's state into the output folder, on every rank together.

    The files are written into a folder aside, forced to disk and then moved one by one, so that a kill leaves no file
    that is cut short. ``run.json`` lists their names.

    Raises:
        CheckpointError: they cannot be written; says that the checkpoints are left as they are.
    """
    output = Path(trainer.args.output_dir)
    check_finite(trainer.model, output=output, step=trainer.state.global_step, device=trainer.args.device)
    aside = output / str(broadcast_object_list([name_aside(trainer.state.global_step)])[0])
    try:
        trainer.save_model(str(aside), _internal_call=True)
        trainer.accelerator.wait_for_everyone()
        if trainer.args.should_save and aside.is_dir():
            sync_all(aside)
            names = sorted(path.name for path in aside.iterdir())
            for name in names:
                _move_over(aside / name, output / name)
            add_to_record(output, "result", {"step": trainer.state.global_step, "files": names})
        trainer.save_state()
    except WRITE_ERRORS as error:
        free = shutil.disk_usage(output).free / 2**20
        raise CheckpointError(
            f"the trained model cannot be written to {output}, which has {free:.0f} MiB free: "
            f"{' '.join(str(error).split())}; the checkpoints are left as they are: make room, then "
            "--resume_from_checkpoint latest writes it again"
        ) from error
    finally:
        if trainer.args.should_save:
            shutil.rmtree(aside, ignore_errors=True)


def push_result(trainer: Any) -> None:
    """Upload the output folder where ``--push_to_hub`` asks for it, with the page and the state next to the model.

    Raises:
        UploadError: the hub does not take it; says where the model is.
    """
    if not trainer.args.push_to_hub:
        return
    try:
        trainer.push_to_hub(commit_message="Model save", revision=trainer.args.hub_revision)
    except Exception as error:
        if not is_of_network(error):
            raise
        said = " ".join(str(error).split())
        raise UploadError(
            f"the trained model is in {trainer.args.output_dir}, but --push_to_hub failed: {said}; the same "
            "command with --resume_from_checkpoint latest trains nothing more, and uploads it"
        ) from error


def _move_over(path: Path, target: Path) -> None:
    if target.is_dir():  # a sharded optimizer's or model's folder; files are replaced in one step
        shutil.rmtree(target)
    os.replace(path, target)

"""Reports of a generation: to TRL's log, to trackers that show images, and to the run's own record."""

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from triptych_trainer.grpo.batch import Experience
from triptych_trainer.grpo.trl.learning import generation_of
from triptych_trainer.grpo.trl.logs import log_experience
from triptych_trainer.monitor.tracker_images import TrackerImages
from triptych_trainer.monitor.trackers import ImageLog, number_images, wants_images

if TYPE_CHECKING:
    from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer

__all__ = ["show_images", "tell"]


def show_images(trainer: "MultiImageGRPOTrainer") -> TrackerImages | None:
    """Let the tracker have the images as well, if completions are logged to one."""
    if not wants_images(trainer.args):
        return None
    seen = TrackerImages(
        Path(trainer.args.output_dir) / "completions" / "images",
        loader=trainer.preparer.loader,
        rank=trainer.accelerator.process_index,
        keep=trainer.args.generation_batch_size,
    )
    trainer.add_callback(ImageLog(trainer._logs, seen.rows, callbacks=trainer.callback_handler.callbacks))
    return seen


def tell(trainer: "MultiImageGRPOTrainer", experience: Experience, *, mode: str) -> None:
    """Log a generation as TRL does, and hand it to whoever reports it."""
    if mode == "train":  # as TRL counts tokens
        num_images = sum(len(group.prompt.image_inputs) for group in experience.groups)
        total = trainer.accelerator.reduce(torch.tensor(num_images, device=trainer.accelerator.device), "sum")
        trainer.num_images_trained += int(total)
    metrics = log_experience(trainer, experience, mode=mode)
    if mode == "train":
        weights = trainer.reward_weights.tolist()
        seen = generation_of(experience, weights=weights, cut_share=metrics["completions/clipped_ratio"])
        trainer.learning.see(seen, step=trainer.state.global_step)
    if trainer.log_completions:
        number_images(trainer._logs, num_rows=len(experience.rewards.scores_BF))
    if trainer.tracker_images is not None:
        images = trainer.tracker_images.gather(
            [(group.prompt, rollout) for group in experience.groups for rollout in group.rollouts]
        )
        if "trackio" in trainer.args.report_to:  # TRL's table shows several images in a cell there
            trainer._logs["images"].extend(row.paths for row in images)
    if trainer.on_rollouts is not None:
        trainer.on_rollouts(experience.scored_groups(), step=trainer.state.global_step, mode=mode)

"""One generation of a trainer, without the training that follows."""

from typing import Any


def sample(trainer: Any, *keys: int) -> Any:
    """Sample and score the groups of these rows of the trainer's data; the batch that the loss gets."""
    rows = [{"row": key} for key in keys for _ in range(trainer.num_generations)]
    return trainer._generate_and_score_completions(rows)["triptych_batch"]

"""The README next to a model that a trainer saves."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from peft import PeftModel
from triptych_data.write_whole import write_whole

from triptych_trainer.monitor.model_card import CardFacts, model_card

__all__ = ["write_card"]


def write_card(
    trainer: Any,
    name: str | None = None,
    tags: Any = None,
    *,
    measured: Mapping[str, tuple[float, float]] | None = None,
) -> None:
    """Write ``README.md`` into the output folder, on the first rank; ``name`` and ``tags`` are those of an upload.

    ``measured`` is what was measured before and after the training, by name.
    """
    if not trainer.is_world_process_zero():
        return
    folder = Path(trainer.args.output_dir)
    model = trainer.accelerator.unwrap_model(trainer.model)
    path = str(getattr(model.config, "_name_or_path", "") or "")
    names = getattr(trainer, "reward_func_names", ())  # none in supervised fine-tuning
    weights = trainer.reward_weights.tolist() if names else ()
    facts = CardFacts(
        name=name or trainer.args.hub_model_id or folder.name,
        base=path if path and not os.path.isdir(path) else None,
        has_adapters=isinstance(model, PeftModel),
        step=trainer.state.global_step,
        options=trainer.args.to_dict(),
        rewards=dict(zip(names, weights, strict=True)),
        log=trainer.state.log_history,
        tags=[tags] if isinstance(tags, str) else list(tags or ()),
        measured=measured or {},
    )
    write_whole(folder / "README.md", model_card(folder, facts).encode("utf-8"))

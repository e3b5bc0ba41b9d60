"""What a checkpoint of TRL's leaves out and the next step depends on: one file ``cycle_<rank>.pt`` for each rank.

The file is written by ``torch.save`` from plain values and tensors (it is read with ``weights_only``), as one mapping:

| key | content |
|---|---|
| `version` | version of this format; a file of another version is not read |
| `num_ranks` | number of ranks of the run that wrote it |
| `step` | micro-batches trained so far: TRL's position in the generation cycle |
| `batches` | the generation under way, as the trainer's ``cycle_to_state`` gives it, or None between two generations |
| `metrics` | by mode and name, what is not logged yet |
| `loss_since_log` | sum of the losses of the steps that are not logged yet |
| `last_logged` | the last step that was logged |
| `total_loss` | sum of the losses of all logged steps since the start of the run, for ``train_loss`` |
| `seconds` | training time since the start of the run, for the speeds at its end |
| `parts` | by name, what other parts of the trainer add; see ``ResumableGRPOTrainer.cycle_parts`` |

A further part of the cycle (images that arrive in a later turn, completions generated ahead of their step) is a new
name in `parts` and needs no new version; a file with a part that the trainer does not know is not read.
"""

import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

__all__ = ["VERSION", "read_cycle", "write_cycle"]

VERSION = 1


def write_cycle(folder: Path, content: Mapping[str, Any], *, rank: int) -> None:
    """Write the cycle file of one rank into a checkpoint folder."""
    torch.save({"version": VERSION, **content}, _file(folder, rank))


def read_cycle(folder: Path, *, rank: int, known_parts: Collection[str] = ()) -> dict[str, Any] | None:
    """Return the content of a rank's cycle file, or None if the checkpoint has none, or one that a run cannot continue
    from.

    Warns where there is one and the run goes on without it: the completions of the open cycle are then sampled again.
    """
    file = _file(folder, rank)
    if not file.is_file():
        return None
    content: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    found = content.get("version")
    unknown = sorted(set(content.get("parts", ())) - set(known_parts))
    if found == VERSION and not unknown:
        return content
    what = f"has version {found}, and this program reads {VERSION}"
    if found == VERSION:
        what = f"contains {', '.join(unknown)}, which this version of Triptych does not read"
    warnings.warn(
        f"{file}: the file {what}; the completions of the generation cycle under way are sampled again, "
        "so the run does not go on exactly as it would have",
        stacklevel=2,
    )
    return None


def _file(folder: Path, rank: int) -> Path:
    return folder / f"cycle_{rank}.pt"

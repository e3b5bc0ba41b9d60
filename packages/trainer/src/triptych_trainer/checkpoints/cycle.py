"""What a checkpoint of TRL's leaves out and the next step depends on: one file ``cycle_<rank>.pt`` for each rank.

The file is written by ``torch.save`` from plain values and tensors (it is read with ``weights_only``), as one mapping:

| key | content |
|---|---|
| `version` | version of this format; a file of another version is not read |
| `num_ranks` | number of ranks of the run that wrote it |
| `sizes` | by name, the options that say into which parts a generation is divided; files before 2026-11-28 lack it |
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

__all__ = ["VERSION", "other_layout", "read_cycle", "unlogged_loss", "write_cycle"]

VERSION = 1


def write_cycle(folder: Path, content: Mapping[str, Any], *, rank: int) -> None:
    """Write the cycle file of one rank into a checkpoint folder."""
    torch.save({"version": VERSION, **content}, _file(folder, rank))


def read_cycle(folder: Path, *, rank: int, known_parts: Collection[str] = ()) -> dict[str, Any] | None:
    """Return the content of a rank's cycle file, or None if the checkpoint has none, or one that a run cannot continue
    from.

    A rank without a file of its own, as where more ranks go on, gets that of the first rank without what only its own
    could contain: `batches` is then None and `num_ranks` 0. Warns where there is a file and the run goes on without it:
    the completions of the open cycle are then sampled again.
    """
    own = _file(folder, rank).is_file()
    file = _file(folder, rank if own else 0)
    if not file.is_file():
        return None
    content: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
    found = content.get("version")
    unknown = sorted(set(content.get("parts", ())) - set(known_parts))
    if found == VERSION and not unknown:
        return content if own else {**content, "num_ranks": 0, "batches": None}
    what = f"has version {found}, and this program reads {VERSION}"
    if found == VERSION:
        what = f"contains {', '.join(unknown)}, which this version of Triptych does not read"
    warnings.warn(
        f"{file}: the file {what}; the completions of the generation cycle under way are sampled again, "
        "so the run does not go on exactly as it would have",
        stacklevel=2,
    )
    return None


def other_layout(cycle: Mapping[str, Any], *, num_ranks: int, sizes: Mapping[str, int]) -> str | None:
    """Return how the run that wrote a cycle divided its generations otherwise than the one that goes on, if it did."""
    if cycle["num_ranks"] != num_ranks:
        return (
            f"by {cycle['num_ranks']} ranks and goes on with {num_ranks}: the next steps train on other rows than they "
            "would have, and the completions of a generation cycle under way are sampled again"
        )
    before = cycle.get("sizes")
    if before is None or cycle["batches"] is None:
        return None
    differ = [f"--{name} {before[name]} and goes on with {now}" for name, now in sizes.items() if before[name] != now]
    if not differ:
        return None
    return f"with {', '.join(differ)}: the completions of the generation cycle under way are sampled again"


def unlogged_loss(folder: Path, cycle: Mapping[str, Any], *, num_ranks: int) -> float:
    """Return the loss that is not logged yet: that of this rank, or where other ranks go on the mean of all before."""
    if cycle["num_ranks"] == num_ranks:
        return float(cycle["loss_since_log"])
    files = sorted(folder.glob("cycle_*.pt"))
    losses = [torch.load(file, map_location="cpu", weights_only=True)["loss_since_log"] for file in files]
    return sum(losses) / len(losses)


def _file(folder: Path, rank: int) -> Path:
    return folder / f"cycle_{rank}.pt"

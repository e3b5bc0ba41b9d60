"""Whether a folder that a user names is a checkpoint, and which of the files that a run continues from it lacks."""

import json
import zipfile
from pathlib import Path

from triptych_trainer.checkpoints.folder import MANIFEST, NAME, CheckpointError, check_whole, checkpoints
from triptych_trainer.errors import UsageError
from triptych_trainer.upstream.transformers_names import TRAINER_STATE_NAME

__all__ = ["check_is_checkpoint", "check_kind", "check_name", "check_readable", "lacking"]

STATES = {
    "optimizer.pt": ("optimizer.pt", "optimizer.bin", "optimizer_*", "rank*-of-*-optimizer.pt", "global_step*"),
    "scheduler.pt": ("scheduler.pt", "global_step*"),
    "rng_state.pth": ("rng_state*.pth",),
    "cycle_0.pt": ("cycle_0.pt",),
}
"""What a run continues from next to the model, and the names under which transformers and its launchers save it."""
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"
"""How a file of `torch.save` begins in its form before zip archives."""


def check_is_checkpoint(folder: Path, *, deep: bool = False) -> None:
    """Check that a folder that a user names is a whole checkpoint; with ``deep``, that it has the bytes that were
    written.

    Raises:
        UsageError: there is no such folder, or it is something else.
        CheckpointError: a file is missing, cut short or changed.
    """
    if not folder.is_dir():
        raise UsageError(
            f"--resume_from_checkpoint {folder}: no such folder; --resume_from_checkpoint latest takes the newest of "
            "the output"
        )
    check_whole(folder, deep=deep)
    check_kind(folder)
    check_readable(folder)


def check_kind(folder: Path) -> None:
    """Check that a folder is a checkpoint and not a model, an output folder or something else.

    Raises:
        UsageError: it is something else; says what to write instead.
    """
    inside = checkpoints(folder)
    asked = f"--resume_from_checkpoint {folder}"
    if inside:
        raise UsageError(
            f"{asked}: expected a checkpoint, got a folder that contains {len(inside)} of them; name one "
            f"({inside[0]}), or give --output_dir {folder} --resume_from_checkpoint latest"
        )
    if (folder / TRAINER_STATE_NAME).is_file() and not (folder / "run.json").is_file():
        return
    is_model = (folder / "config.json").is_file() or (folder / "adapter_config.json").is_file()
    names = sorted(path.name for path in folder.iterdir())
    got = "a model" if is_model else f"a folder with {', '.join(names[:3])}" if names else "an empty folder"
    remedy = f"train on from its weights: --model_name_or_path {folder} without --resume_from_checkpoint"
    raise UsageError(
        f"{asked}: expected a checkpoint, whose trainer_state.json says its step, got {got}; "
        + (remedy if is_model else "name a folder that training saved, such as out/checkpoint-50")
    )


def check_readable(folder: Path) -> None:
    """Check that no file of a checkpoint without a manifest is cut short; a manifest has digests for that.

    Raises:
        CheckpointError: a file is; says which.
    """
    if (folder / MANIFEST).exists():
        return
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if not _is_whole(path):
            raise CheckpointError(
                f"--resume_from_checkpoint {folder}: {path.relative_to(folder)} is cut short or damaged; copy the "
                "checkpoint again, or name another one"
            )


def _is_whole(path: Path) -> bool:
    """Whether a file has the beginning and the end that its format asks for; True for formats without them."""
    if path.suffix == ".json":
        try:
            json.loads(path.read_bytes())
        except ValueError:
            return False
    with path.open("rb") as stream:
        start = stream.read(len(LEGACY))
    if path.suffix == ".safetensors":
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            try:
                entries = json.loads(stream.read(min(length, path.stat().st_size)))
                ends = [entry["data_offsets"][1] for name, entry in entries.items() if name != "__metadata__"]
            except (ValueError, LookupError, TypeError, AttributeError):
                return False
        return path.stat().st_size == 8 + length + max(ends, default=0)
    if path.suffix in (".pt", ".pth", ".bin", ".npz"):
        return start == LEGACY or zipfile.is_zipfile(path)
    return True


def check_name(folder: Path) -> Path:
    """Return a checkpoint of the output folder itself, if its name says its step.

    Raises:
        UsageError: it was renamed, so that it cannot be compared with the later ones of its run.
    """
    if NAME.fullmatch(folder.name):
        return folder
    raise UsageError(
        f"--resume_from_checkpoint {folder}: expected the name checkpoint-STEP in the output folder, got "
        f"{folder.name}; give it its name back, or another --output_dir, where it begins a run of its own"
    )


def lacking(checkpoint: Path) -> list[str]:
    """Return a sentence about what a checkpoint lacks of what a run continues from, where it was not saved."""
    absent = [name for name, patterns in STATES.items() if not any(any(checkpoint.glob(one)) for one in patterns)]
    if not absent:
        return []
    anew = []
    if {"optimizer.pt", "scheduler.pt"} & {*absent}:  # transformers loads both or neither
        anew.append("the optimizer and the schedule of the learning rate begin anew")
    if "rng_state.pth" in absent:
        anew.append("other random numbers are drawn")
    if "cycle_0.pt" in absent:
        anew.append("completions under way are sampled again, and metrics that were not logged yet are lost")
    return [f"{checkpoint.name} contains no {', '.join(absent)}: {', '.join(anew)}"]

"""The weights of a checkpoint, loaded into the model of the run that goes on from it."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from transformers import PreTrainedModel

from triptych_trainer.checkpoints.folder import CheckpointError

__all__ = ["dtypes_kept", "load_weights", "weights_digest"]

SAMPLED_VALUES = 16


def load_weights(model: PreTrainedModel, folder: Path) -> None:
    """Load what ``save_pretrained`` wrote, by the same rules of names, and miss nothing.

    transformers 5.23 saves a vision-language model under the names of the hub (``visual.``, ``model.layers.``), but
    its trainer looks for ``model.visual.`` and ``model.language_model.``, finds none, and goes on with the weights
    it started from.

    Raises:
        CheckpointError: the folder contains another model; says by which weights they differ.
    """
    try:
        saved = type(model).from_pretrained(folder, dtype="auto").state_dict()
    except (ValueError, RuntimeError, OSError) as error:
        cause = " ".join(str(error).split())
        raise CheckpointError(
            f"{folder.name} cannot be loaded as {type(model).__name__}: {cause}; "
            "give the --model_name_or_path that the run was started with"
        ) from error
    found = _difference(saved, model.state_dict())
    if found is not None:
        raise CheckpointError(
            f"{folder.name} contains another model than the one given: {found}; "
            "give the --model_name_or_path that the run was started with"
        )
    model.load_state_dict(saved)


def _difference(saved: dict[str, torch.Tensor], own: dict[str, torch.Tensor]) -> str | None:
    """The first weight by which a checkpoint and a model differ in name or shape."""
    for name in sorted(saved.keys() ^ own.keys()):
        return f"{name} is only in the {'checkpoint' if name in saved else 'model'}"
    for name, value in own.items():
        if saved[name].shape != value.shape:
            return f"{name} is {list(saved[name].shape)} in the checkpoint and {list(value.shape)} in the model"
    return None


@contextmanager
def dtypes_kept(model: torch.nn.Module) -> Iterator[None]:
    """Give trained parameters their dtype back: PEFT reads bfloat16 adapters, which QLoRA trains, as float32."""
    before = {name: parameter.dtype for name, parameter in model.named_parameters() if parameter.requires_grad}
    yield
    for name, parameter in model.named_parameters():
        if parameter.dtype != before.get(name, parameter.dtype):
            parameter.data = parameter.data.to(before[name])


def weights_digest(model: torch.nn.Module) -> str:
    """Return a digest by which two models are distinguished: of each parameter its name, dtype, shape and 32 of its
    values.

    Parameters that are not in this process, such as those that ZeRO-3 spread over ranks when it loaded them, count by
    name, dtype and shape.
    """
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        values = parameter.detach()
        digest.update(f"{name} {values.dtype} {list(values.shape)}\n".encode())
        if values.is_meta or hasattr(values, "to_local"):  # a DTensor contains this rank's share only
            continue
        values = values.flatten()
        for piece in (values[:SAMPLED_VALUES], values[-SAMPLED_VALUES:]):
            digest.update(piece.double().cpu().numpy().tobytes())
    return digest.hexdigest()[:32]

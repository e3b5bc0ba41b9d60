"""How a command of the trainer ends: as any other, with advice where a device has no memory left, and in one sentence
where another process of the run is gone.
"""

import os
import re
from collections.abc import Callable

from triptych_data.outcome import outcome as data_outcome
from triptych_parser import Refusal

from triptych_trainer.errors import UploadError, is_of_network
from triptych_trainer.options.written import by_command

__all__ = ["LostProcessError", "OutOfMemoryError", "outcome"]

_CPU = "not enough memory: you tried to allocate"
_LOST = ("connection closed by peer", "connection reset by peer", "remote process exited")
"""How gloo and NCCL say that the process at the other end is no longer there."""
ADVICE = (
    "`triptych plan` with the same options says what each setting would save; the first ones to try are a lower "
    "--per_device_train_batch_size, --max_prompt_image_tokens or --max_completion_length, --gradient_checkpointing, "
    "and --completions_per_slice for one large group"
)


class OutOfMemoryError(Refusal, RuntimeError):
    """Says that a device or the host has no memory left for what a command was asked to do."""


class LostProcessError(Refusal, RuntimeError):
    """Says that another process of the run has ended while this one waited for it."""


def outcome(command: str, run: Callable[[], int]) -> int:
    """Run a command and return its exit code: 2, after one line on standard error, for what the user can correct."""
    with by_command():
        return data_outcome(command, lambda: _explained(run))


def _explained(run: Callable[[], int]) -> int:
    try:
        return run()
    except RuntimeError as error:
        text = " ".join(str(error).split())
        if any(words in text.lower() for words in _LOST):
            rank = os.environ.get("RANK", "0")
            raise LostProcessError(
                f"process {rank} of this run ends too, because another process has ended; look for the error of that "
                "process in the same log, or in the log of its machine"
            ) from error
        if type(error).__name__ != "OutOfMemoryError" and _CPU not in text and "can't allocate memory" not in text:
            raise
        raise OutOfMemoryError(_sentence(text)) from error
    except MemoryError as error:
        raise OutOfMemoryError(f"this machine has no memory left; {ADVICE}") from error
    except Exception as error:
        if isinstance(error, (Refusal, OSError)) or not is_of_network(error):
            raise
        said = " ".join(str(error).split())
        raise UploadError(
            f"the hub cannot be reached ({said}); check the network, or leave out --push_to_hub, "
            "--log_completions_hub_repo and names of the hub"
        ) from error


def _sentence(text: str) -> str:
    """What torch says, down to what was asked for and where: the rest of its text is about its own settings."""
    place = "the GPU" if "CUDA" in text or "GPU" in text else "this machine"
    asked = re.search(r"[Tt]ried to allocate ([\d.]+ ?\w+)", text)
    what = f", which was asked for {asked[1]} more" if asked else ""
    return f"{place} has no memory left{what}; {ADVICE}"

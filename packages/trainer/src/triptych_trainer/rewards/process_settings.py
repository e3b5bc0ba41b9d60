"""Settings of the whole process by which the training computes, and which a user's code must leave as they were."""

import sys
import warnings
from collections.abc import Mapping
from typing import Any

__all__ = ["changed_setting", "process_settings"]

REMEDY = "put it back before the function returns, or change it for its own lines only (in a `with` block)"
AT_FIRST = {
    "torch's default dtype": "torch.float32",
    "torch's default device": "cpu",
    "torch's switch for gradients": "True",
    "torch's number of threads": "",
    "torch's choice of deterministic algorithms": "False",
    "torch's precision of float32 products": "highest",
}
"""The settings of torch while it is not imported; an empty text is not compared."""
OF_A_THREAD = ("torch's default device", "torch's switch for gradients", "torch's number of threads")
"""Settings that other threads have of their own."""


def process_settings() -> dict[str, str]:
    """Return the settings by name, as texts."""
    found = dict(AT_FIRST)
    if (torch := sys.modules.get("torch")) is not None:
        values = (
            *(torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled(), torch.get_num_threads()),
            *(torch.are_deterministic_algorithms_enabled(), _precision(torch)),
        )
        found = dict(zip(AT_FIRST, map(str, values), strict=True))
    errors = {
        getattr(category, "__name__", str(category))
        for action, message, category, module, _ in warnings.filters
        if action == "error" and message is None and module is None
    }
    return found | {"the warnings that are errors": ", ".join(sorted(errors)) or "none"}


def _precision(torch: Any) -> str:
    try:
        return str(torch.get_float32_matmul_precision())
    except RuntimeError:  # the newer names of these settings were used, and contradict each other
        return ""


def changed_setting(before: Mapping[str, str], *, of_thread: bool = True) -> str | None:
    """Return the first setting that is not as it was, with both values and what to do; None where none changed.

    Without ``of_thread`` the settings of a thread are not compared: TRL awaits coroutines in a thread that trains
    nothing, side by side, so that one of them sees what another has set for its own lines.
    """
    for name, value in process_settings().items():
        if before[name] not in (value, "") and (of_thread or name not in OF_A_THREAD):
            return f"changed {name} from {before[name]} to {value} for the whole process; {REMEDY}"
    return None

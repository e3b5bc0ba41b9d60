"""Settings of the whole process by which the training computes, and which a user's code must leave as they were."""

import sys
import warnings
from collections.abc import Mapping

__all__ = ["changed_setting", "process_settings"]

REMEDY = "put it back before the function returns, or change it for its own lines only (in a `with` block)"
AT_FIRST = {
    "torch's default dtype": "torch.float32",
    "torch's default device": "cpu",
    "torch's switch for gradients": "True",
}
"""The settings of torch while it is not imported."""
OF_A_THREAD = ("torch's default device", "torch's switch for gradients")
"""Settings that other threads have of their own."""


def process_settings() -> dict[str, str]:
    """Return the settings by name, as texts."""
    found = dict(AT_FIRST)
    if (torch := sys.modules.get("torch")) is not None:
        values = (torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled())
        found = dict(zip(AT_FIRST, map(str, values), strict=True))
    errors = {
        getattr(category, "__name__", str(category))
        for action, message, category, module, _ in warnings.filters
        if action == "error" and message is None and module is None
    }
    return found | {"the warnings that are errors": ", ".join(sorted(errors)) or "none"}


def changed_setting(before: Mapping[str, str], *, of_thread: bool = True) -> str | None:
    """Return the first setting that is not as it was, with both values and what to do; None where none changed.

    Without ``of_thread`` the settings of a thread are not compared: TRL awaits coroutines in a thread that trains
    nothing, side by side, so that one of them sees what another has set for its own lines.
    """
    for name, value in process_settings().items():
        if value != before[name] and (of_thread or name not in OF_A_THREAD):
            return f"changed {name} from {before[name]} to {value} for the whole process; {REMEDY}"
    return None

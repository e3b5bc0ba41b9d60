"""The differences between the supported versions of torch that affect Triptych."""

import functools

import torch

__all__ = ["load_to_numbered_cpus"]


@functools.cache
def load_to_numbered_cpus() -> None:
    """Let `torch.load` put tensors on `cpu:0`: several ranks on CPUs ask for it, and torch 2.13 knows only `cpu`.

    Later versions know both; there the function that is added here is never asked.
    """
    torch.serialization.register_package(100, lambda _: None, _on_a_numbered_cpu)


def _on_a_numbered_cpu(storage: torch.UntypedStorage, location: str) -> torch.UntypedStorage | None:
    return storage if location.startswith("cpu:") else None

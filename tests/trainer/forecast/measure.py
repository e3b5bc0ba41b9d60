"""Run as a script: one policy pass with its backward, and by how much resident memory rose meanwhile.

Arguments: shape name, JSON of further options. Prints one line of JSON. Nothing of the forecast is used here.
"""

import ctypes
import gc
import json
import sys
import time
import warnings
from pathlib import Path

warnings.simplefilter("ignore")
import torch  # noqa: E402
from transformers import AutoModelForImageTextToText  # noqa: E402

sys.path.insert(0, str(Path(__file__).parent))
from shapes import SHAPES, shape_batch  # noqa: E402
from triptych_trainer.forward import install_hooks  # noqa: E402
from triptych_trainer.grpo.engine import GroupEngine  # noqa: E402
from triptych_trainer.models.load import freeze_vision_modules  # noqa: E402


def return_freed_memory_at_once() -> None:
    """So that resident memory is what is allocated: mmap and trim thresholds of 64 KiB, one arena (malloc.h)."""
    libc = ctypes.CDLL("libc.so.6")
    for parameter, value in ((-3, 65536), (-1, 65536), (-8, 1)):
        assert libc.mallopt(parameter, value) == 1


def status(name: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    raise RuntimeError(name)


def policy_pass(model, batch, *, engine):
    logps_BC = engine.logps(model, batch, keys=range(len(batch.prompts)), compute_entropy=True).logps_BC
    (-(torch.exp(logps_BC - logps_BC.detach())).sum()).backward()


def main() -> None:
    shape, options = SHAPES[sys.argv[1]], json.loads(sys.argv[2])
    return_freed_memory_at_once()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(
        shape.config(),
        attn_implementation=options.get("attn_implementation", "sdpa"),
        dtype=getattr(torch, options.get("dtype", "float32")),
    ).train()
    if options.get("freeze_vision_modules"):
        freeze_vision_modules(model)
    if options.get("gradient_checkpointing"):
        model.gradient_checkpointing_enable()
    install_hooks(model)
    batch = shape_batch(shape, turns=options.get("turns", 0))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter) + 0.0
    small, _ = batch.pick([(0, ())])
    small = small.with_completions([[(8, 8)]])
    policy_pass(
        model, small, engine=GroupEngine(verify=False)
    )  # libraries make buffers at the first use of an operation
    engine = GroupEngine(verify=False, completions_per_slice=options.get("completions_per_slice"))
    with torch.no_grad():
        engine.features(model, batch, keys=range(len(batch.prompts)))  # as generation leaves them for a frozen tower
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before, start = status("VmRSS"), time.perf_counter()
    policy_pass(model, batch, engine=engine)
    print(json.dumps({"bytes": status("VmHWM") - before, "seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()

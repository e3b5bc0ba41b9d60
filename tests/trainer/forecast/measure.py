"""Run as a script: one policy pass with its backward, and by how much resident memory rose meanwhile.

With the option "generates" it is one generation instead, which keeps its prompts for the policy pass.

Arguments: shape name, JSON of further options. Prints one line of JSON. Nothing of the forecast is used here.
"""

import ctypes
import gc
import json
import sys
import time
import warnings
from contextlib import nullcontext
from functools import partial
from pathlib import Path

warnings.simplefilter("ignore")
import torch  # noqa: E402
from accelerate.utils import convert_outputs_to_fp32  # noqa: E402
from transformers import AutoModelForImageTextToText, GenerationConfig  # noqa: E402

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


def generation(model, batch, *, engine):
    asked, _ = batch.pick([(p, ()) for p in range(len(batch.prompts))])
    length = {"max_new_tokens": batch.max_completion_tokens, "min_new_tokens": batch.max_completion_tokens}
    settings = GenerationConfig(do_sample=True, pad_token_id=0, eos_token_id=1, **length)
    keys = range(len(batch.prompts))
    engine.generate(model, asked, keys=keys, group_sizes=list(batch.group_sizes), generation_config=settings)


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
    autocast = partial(torch.autocast, "cpu", dtype=torch.bfloat16) if options.get("bf16") else nullcontext
    if options.get("bf16"):  # as accelerate does
        model.forward = convert_outputs_to_fp32(autocast()(model.forward))
    batch = shape_batch(shape, turns=options.get("turns", 0))
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.zeros_like(parameter) + 0.0
    small, _ = batch.pick([(0, ())])
    generates = options.get("generates", False)
    made = partial(GroupEngine, verify=False, autocast=autocast, trains_once=generates, keeps_prompts=generates)
    # libraries make buffers at the first use of an operation
    policy_pass(model, small.with_completions([[(8, 8)]]), engine=made())
    engine = made(completions_per_slice=options.get("completions_per_slice"))
    measured = partial(generation if generates else policy_pass, model, batch, engine=engine)
    if generates:
        generation(model, small.with_completions([[(8,) * 16]]), engine=made())
    else:
        with torch.no_grad():
            engine.features(model, batch, keys=range(len(batch.prompts)))  # as generation leaves them if it is frozen
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before, start = status("VmRSS"), time.perf_counter()
    measured()
    print(json.dumps({"bytes": status("VmHWM") - before, "seconds": time.perf_counter() - start}))


if __name__ == "__main__":
    main()

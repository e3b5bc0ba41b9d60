"""Run as a script: `triptych sft` with the given words, and by how much its second step raised resident memory.

The first step makes the optimizer's state and the buffers of libraries. Prints one line of JSON at the end.
"""

import ctypes
import gc
import json
import sys
from pathlib import Path

import torch
from transformers import Trainer
from triptych_trainer.cli import main

TRAINING_STEP, RISES = Trainer.training_step, []
LIBC = ctypes.CDLL("libc.so.6")


def status(name: str) -> int:
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name)]
    return int(line.split()[1]) * 1024


def measured_step(self, *args, **more):
    gc.collect()
    LIBC.malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    loss = TRAINING_STEP(self, *args, **more)
    RISES.append(status("VmHWM") - before)
    return loss


if __name__ == "__main__":
    for parameter, value in ((-3, 65536), (-1, 65536), (-8, 1)):  # freed memory is returned at once (malloc.h)
        assert LIBC.mallopt(parameter, value) == 1
    torch.set_num_threads(1)
    Trainer.training_step = measured_step
    code = main(["sft", *sys.argv[1:], "--max_steps", "2", "--save_strategy", "no", "--use_cpu", "true", "--quiet"])
    print(json.dumps({"bytes": RISES[-1]}))
    sys.exit(code)

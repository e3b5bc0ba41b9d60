"""What a process of the `fork` fixture does: take its own environment and output files, then be `train` or a script."""

import gc
import os
import runpy
import sys

gc.freeze()  # the server's imports are no garbage: every training run looks for some twice, and would copy their pages
os.fsync = os.fstat  # as in the tests' own process: no disk is waited for
given = globals()  # run_path puts ARGUMENTS, ENVIRONMENT, STDOUT, STDERR, SCRIPT and BEFORE here
os.environ.update(given["ENVIRONMENT"])
for stream, path in ((1, given["STDOUT"]), (2, given["STDERR"])):
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
sys.argv = [given["SCRIPT"] or "train", *given["ARGUMENTS"]]
import torch  # noqa: E402

torch.set_num_threads(1)
exec(given["BEFORE"])
if given["SCRIPT"]:
    runpy.run_path(given["SCRIPT"], run_name="__main__")
    sys.exit(0)
from triptych_trainer.cli import train  # noqa: E402

sys.exit(train())

"""What a forked process does: become `train` with its own arguments, environment and output files."""

import os
import sys

globals_ = globals()  # set by run_path: ARGUMENTS, ENVIRONMENT, STDOUT, STDERR, PROGRAM
os.environ.update(globals_["ENVIRONMENT"])
for stream, path in ((1, globals_["STDOUT"]), (2, globals_["STDERR"])):
    os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
sys.argv = ["train", *globals_["ARGUMENTS"]]
import torch  # noqa: E402

torch.set_num_threads(1)
exec(globals_["PROGRAM"])
from triptych_trainer.cli import train  # noqa: E402

sys.exit(train())

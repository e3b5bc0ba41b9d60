"""torch's private names: optimizers on `cpu:0`."""

import io

import torch
from triptych_trainer.upstream.torch_names import load_to_numbered_cpus


def test_tensors_are_loaded_to_a_numbered_cpu():
    """torch 2.13 refused to load an optimizer to `cpu:0`, where several ranks on CPUs want it."""
    load_to_numbered_cpus()
    file = io.BytesIO()
    torch.save({"step": torch.arange(3.0)}, file)
    file.seek(0)
    loaded = torch.load(file, map_location=torch.device("cpu", 0), weights_only=True)
    assert loaded["step"].tolist() == [0.0, 1.0, 2.0]

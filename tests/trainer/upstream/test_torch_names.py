"""torch's private names: optimizers on `cpu:0`, and the ops of oneDNN."""

import io

import pytest
import torch
from triptych_trainer.upstream import torch_names
from triptych_trainer.upstream.torch_names import load_to_numbered_cpus, pack_weight, packed_product, why_no_packing


def test_tensors_are_loaded_to_a_numbered_cpu():
    """torch 2.13 refused to load an optimizer to `cpu:0`, where several ranks on CPUs want it."""
    load_to_numbered_cpus()
    file = io.BytesIO()
    torch.save({"step": torch.arange(3.0)}, file)
    file.seek(0)
    loaded = torch.load(file, map_location=torch.device("cpu", 0), weights_only=True)
    assert loaded["step"].tolist() == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("num_rows", [1, 8, 50])
def test_a_packed_matrix_gives_the_product_of_the_matrix(num_rows):
    assert why_no_packing() is None
    weight, bias = torch.randn(96, 40), torch.randn(96)
    packed = pack_weight(weight, num_rows=8)
    for hidden in (torch.randn(num_rows, 1, 40), torch.randn(40, num_rows).t()):
        expected = torch.nn.functional.linear(hidden, weight, bias)
        torch.testing.assert_close(packed_product(hidden, packed, bias), expected)


def test_ops_with_other_arguments_are_not_called(monkeypatch):
    why_no_packing.cache_clear()
    monkeypatch.setattr(torch_names, "_PRODUCT", ("X", "W", "C", "attr", "scalars", "algorithm"))
    try:
        assert why_no_packing().endswith("takes other arguments: X, W, B, attr, scalars, algorithm")
    finally:
        why_no_packing.cache_clear()

"""What `parts.py` says of a step, on a tiny model."""

import importlib
import re
from pathlib import Path

import pytest
import torch


@pytest.fixture
def parts(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    return importlib.import_module("parts")


def test_calls_of_one_shape_are_added_up(parts):
    left, right, query = torch.ones(2, 3), torch.ones(3, 5), torch.ones(1, 2, 4, 16)
    with parts.Watch() as watch:
        left @ right
        left @ right
        torch.addmm(torch.ones(5), left, right)
        torch.nn.functional.scaled_dot_product_attention(query, query, query, is_causal=True)
    found = {call.name.split()[0]: call for call in watch.calls.values()}
    assert (found["mm.default"].number, found["mm.default"].flops) == (2, 2 * 2 * 3 * 5)
    assert found["addmm.default"].flops == found["mm.default"].flops
    assert found[f"{parts.ATTENTION}.default"].flops == 4 * 2 * 4 * 4 * 16 // 2
    assert torch.equal(found["mm.default"].build()(), torch.full((2, 3), 0.01) @ torch.full((3, 5), 0.01))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_a_step_of_a_tiny_model(parts, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        parts.whole,
        "WHOLE",
        parts.whole.Size(hidden=128, layers=2, vision_hidden=64, vision_layers=2, heads=4, kv_heads=4, vocabulary=2048),
    )
    monkeypatch.setattr(parts.whole, "GROUP", 2)
    kernel = parts._native.cpu.packed_product
    parts.print_parts(tmp_path, images=1, length=16, num_calls=1, side_pixels=84)
    assert parts._native.cpu.packed_product is kernel
    rows = dict(re.findall(r"^\| ([a-zA-Z ,]+) \| (\d+) \|", capsys.readouterr().out, re.MULTILINE))
    assert rows["attention of sampled tokens"] == str(2 * 16)  # a call for each layer and token
    assert rows["products of sampled tokens"] == str((2 * 3 + 1) * 16)  # matrices of 128 x 128 are too small for copies
    assert int(rows["products"]) > 0

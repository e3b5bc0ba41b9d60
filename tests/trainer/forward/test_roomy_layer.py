"""A cache layer with room: the keys and values of transformers' own layer, without a copy at each token."""

import pytest
import torch
from transformers.cache_utils import DynamicLayer
from triptych_trainer.forward.roomy_layer import ROOM_TOKENS, RoomyLayer


def states(rows, columns, *, seed):
    torch.manual_seed(seed)
    return torch.randn(rows, 2, columns, 4), torch.randn(rows, 2, columns, 4)


def decode(layer, *, rows, first, count):
    for k in range(count):
        keys, values = layer.update(*states(rows, 1, seed=first + k))
    return keys.clone(), values.clone()


CHANGES = {
    "repeated": lambda layer: layer.batch_repeat_interleave(2),
    "reordered": lambda layer: layer.reorder_cache(torch.tensor([1, 0, 1, 0])),
    "rows dropped": lambda layer: layer.batch_select_indices(torch.tensor([1])),
    "cropped": lambda layer: layer.crop(-3),
    "moved": lambda layer: [
        setattr(layer, name, getattr(layer, name)[:, :, 2:].clone()) for name in ("keys", "values")
    ],
    "cut in front": lambda layer: [setattr(layer, name, getattr(layer, name)[:, :, 2:]) for name in ("keys", "values")],
    "nothing": lambda layer: None,
}


@pytest.mark.parametrize("change", CHANGES)
@torch.no_grad()
def test_keys_and_values_are_those_of_transformers_layer_whatever_happens_between_tokens(change):
    found = []
    for layer in (DynamicLayer(), RoomyLayer()):
        layer.update(*states(2, 5, seed=0))
        decode(layer, rows=2, first=10, count=3)
        CHANGES[change](layer)
        rows = layer.keys.shape[0]
        again = decode(layer, rows=rows, first=50, count=ROOM_TOKENS + 2)
        new = layer.update(*states(rows, 4, seed=9))
        assert layer.get_seq_length() == new[0].shape[2]
        found.append((*again, *new))
    for ours, theirs in zip(*found, strict=True):
        assert torch.equal(ours, theirs)


@torch.no_grad()
def test_a_token_is_written_in_place_while_there_is_room():
    layer = RoomyLayer()
    layer.update(*states(2, 5, seed=0))
    places = {decode(layer, rows=2, first=k, count=1) and layer.keys.data_ptr() for k in range(ROOM_TOKENS)}
    assert len(places) == 1
    decode(layer, rows=2, first=0, count=2)
    assert layer.keys.data_ptr() not in places


def test_with_gradients_it_is_transformers_layer():
    layer = RoomyLayer()
    keys, values = (state.requires_grad_() for state in states(2, 5, seed=0))
    layer.update(keys, values)
    joined, _ = layer.update(*states(2, 1, seed=1))
    joined.sum().backward()
    assert torch.equal(keys.grad, torch.ones_like(keys))

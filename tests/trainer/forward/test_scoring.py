"""Log-probabilities and entropies from logits against torch's own functions, and their hand-written gradient."""

import pytest
import torch
from triptych_trainer.forward.scoring import slices_of, token_logps


def reference(logits_KV, labels_K, temperature):
    z = (logits_KV / temperature).log_softmax(-1)
    return z.gather(-1, labels_K[:, None])[:, 0], -(z.exp() * z).sum(-1)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 1.7])
@pytest.mark.parametrize(("step", "cached"), [(None, None), (3, None), (3, 2)])
def test_values_and_gradients(monkeypatch, temperature, step, cached):
    if step is not None:
        monkeypatch.setattr("triptych_trainer.forward.scoring._SLICE_ELEMENTS", step * 11)
    if cached is not None:
        monkeypatch.setattr("triptych_trainer.forward.scoring._CACHED_ELEMENTS", cached * 11)
    generator = torch.Generator().manual_seed(0)
    logits = (torch.randn(8, 11, generator=generator) * 4).requires_grad_()
    labels = torch.randint(0, 11, (8,), generator=generator)
    weights = torch.randn(2, 8, generator=generator)
    want = reference(logits, labels, temperature)
    (want_grad,) = torch.autograd.grad((weights[0] * want[0] + weights[1] * want[1]).sum(), logits)
    got = token_logps(logits, labels, temperature=temperature)
    (got_grad,) = torch.autograd.grad((weights[0] * got[0] + weights[1] * got[1]).sum(), logits)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(got_grad, want_grad, rtol=1e-5, atol=1e-6)


def test_half_precision_logits_are_scored_in_float32():
    logits = torch.randn(5, 7).bfloat16().requires_grad_()
    labels = torch.arange(5)
    logps, entropies = token_logps(logits, labels)
    assert logps.dtype == entropies.dtype == torch.float32
    torch.testing.assert_close(logps, reference(logits.float(), labels, 1.0)[0])
    logps.sum().backward()
    assert logits.grad.dtype == torch.bfloat16


def test_slices_cover_all_rows_once(monkeypatch):
    monkeypatch.setattr("triptych_trainer.forward.scoring._SLICE_ELEMENTS", 10)
    rows = [row for part in slices_of(7, 4) for row in range(7)[part]]
    assert rows == list(range(7))
    assert len(slices_of(0, 4)) == 1

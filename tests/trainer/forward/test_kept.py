"""Scores over the tokens that an engine kept: the formula and its gradient by hand, in every way of scoring."""

import copy
from dataclasses import replace

import pytest
import torch
from triptych_trainer.forward import plain_logps, shared_logps, sliced_logps
from triptych_trainer.forward.cache_pass import cached_logps
from triptych_trainer.forward.kept import kept_of
from triptych_trainer.forward.scoring import token_logps
from triptych_trainer.rollouts.kept import drawn_from_all, kept_table, one_after_the_other

TOLERANCE = 1e-5
KEPT = [[2, 5], [0], [10, 1, 4], []]
"""Of each of four tokens, among 11; the last was drawn from all of them."""
LABELS = [5, 0, 4, 7]


def by_hand(logits_KV, kept, labels, temperature):
    """log p_l = z_l - log sum_{v kept} exp z_v, and H = -sum_{v kept} p_v log p_v, with z = logits / temperature."""
    logps, entropies = [], []
    for logits_V, ids, label in zip(logits_KV, kept, labels, strict=True):
        z = (logits_V if not ids else logits_V[ids]) / temperature
        log_p = z - z.exp().sum().log()
        logps.append(log_p[label if not ids else ids.index(label)])
        entropies.append(-(log_p.exp() * log_p).sum())
    return torch.stack(logps), torch.stack(entropies)


@pytest.mark.parametrize("temperature", [1.0, 0.6])
@pytest.mark.parametrize("step", [4, 3])
def test_values_and_gradients_are_those_of_the_formula(monkeypatch, temperature, step):
    monkeypatch.setattr("triptych_trainer.forward.scoring._SLICE_ELEMENTS", step * 11)
    logits = (torch.randn(4, 11, generator=torch.Generator().manual_seed(0)) * 3).requires_grad_()
    weights = torch.tensor([[1.0, -2.0, 0.5, 3.0], [0.3, 0.2, -0.1, 0.7]])
    want = by_hand(logits, KEPT, LABELS, temperature)
    (want_grad,) = torch.autograd.grad((weights[0] * want[0] + weights[1] * want[1]).sum(), logits)
    got = token_logps(logits, torch.tensor(LABELS), temperature=temperature, kept_KJ=kept_table(KEPT))
    (got_grad,) = torch.autograd.grad((weights[0] * got[0] + weights[1] * got[1]).sum(), logits)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(got_grad, want_grad, rtol=1e-5, atol=1e-6)
    assert got[0][1] == 0, "the only token that was kept has the probability 1"
    assert torch.equal(got_grad[0].nonzero()[:, 0], torch.tensor([2, 5])), "no logit of another token moves"


@pytest.fixture
def cut_batch(lab):
    """A batch whose tokens were drawn from the completion's own token and up to three more; one completion from all."""
    batch, generator = lab.qwen_batch(), torch.Generator().manual_seed(3)

    def table(ids):
        others = torch.randint(1, 89, (len(ids), 3), generator=generator).tolist()
        rows = [[token, *more[: 1 + k % 3]] for k, (token, more) in enumerate(zip(ids, others, strict=True))]
        return kept_table([list(dict.fromkeys(row)) for row in rows])

    kept = [[table(ids) for ids in group] for group in batch.completions]
    kept[1][2] = None
    return replace(batch, kept=tuple(map(tuple, kept)))


def stock_over_kept(lab, model, batch, temperature):
    """Every row alone through the model's stock forward, then the formula."""
    width = batch.max_completion_tokens
    rows = []
    for p, group in enumerate(batch.completions):
        for completion, table in zip(group, batch.kept[p], strict=True):
            ids = [*batch.prompts[p], *completion]
            logits = lab.stock_logits(model, batch, prompt=p, ids=ids, inputs_of=lab.qwen_inputs)
            kept = [[]] * len(completion) if table is None else [[v for v in row if v >= 0] for row in table.tolist()]
            found = by_hand(logits[len(batch.prompts[p]) - 1 : -1], kept, completion, temperature)
            rows.append([torch.nn.functional.pad(part, (0, width - len(completion))) for part in found])
    return tuple(torch.stack(parts) for parts in zip(*rows, strict=True))


WAYS = {
    "shared": lambda model, batch, t: shared_logps(model, batch, temperature=t, compute_entropy=True),
    "shared with TRL's head": lambda model, batch, t: shared_logps(
        model, batch, temperature=t, compute_entropy=True, fused_lm_head=True
    ),
    "plain": lambda model, batch, t: plain_logps(model, batch, temperature=t, compute_entropy=True),
    "cached": lambda model, batch, t: cached_logps(model, batch, temperature=t),
    "sliced": lambda model, batch, t: sliced_logps(model, batch, rows_per_slice=2, temperature=t),
}


@pytest.mark.parametrize("way", WAYS)
def test_every_way_scores_over_the_kept_tokens(lab, monkeypatch, cut_batch, way):
    monkeypatch.setattr("triptych_trainer.forward.scoring._SLICE_ELEMENTS", 4 * lab.VOCABULARY)
    stock = lab.qwen2_5_vl().train()
    model = copy.deepcopy(stock)
    want = stock_over_kept(lab, stock, cut_batch, 0.7)
    got = WAYS[way](model, cut_batch, 0.7)
    for value, reference in zip(got, want, strict=True):
        assert (value - reference).abs().max() < TOLERANCE
    lab.weighted_loss(*want).backward()
    lab.weighted_loss(*got).backward()
    lab.assert_same_gradients(lab.gradients(model), lab.gradients(stock), tolerance=TOLERANCE)
    over_all, _ = shared_logps(model, replace(cut_batch, kept=()), temperature=0.7)
    assert (over_all - want[0]).abs().max() > 1, "the test could not tell the two apart"


def test_a_picked_completion_keeps_its_table_as_far_as_it_goes(cut_batch):
    small, _ = cut_batch.pick([(2, [1, 2]), (1, [2])], ends=[[1, 4], [3]])
    assert kept_of(small, width=4)[:2, :1].tolist() == kept_of(cut_batch, width=9)[7:9, :1].tolist()
    assert torch.equal(small.kept[0][1], cut_batch.kept[2][2][:4])
    assert small.kept[1] == (None,)
    assert kept_of(replace(small, kept=()), width=4) is None


def test_tables_of_turns_are_joined_with_rows_of_the_environment():
    first = one_after_the_other(kept_table([[7, 3], [5]]), drawn_from_all(1))
    assert one_after_the_other(first, kept_table([[1, 2, 9]])).tolist() == [
        [7, 3, -1],
        [5, -1, -1],
        [-1] * 3,
        [1, 2, 9],
    ]

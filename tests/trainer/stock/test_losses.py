"""Every loss that GRPOConfig 1.16 offers, against stock TRL: the same value and gradient on the same batch.

Both trainers sample a batch with the same weights and seed; then both get the same other weights, so that importance
ratios, clipping and KL say something.
"""

import re

import pytest
import torch
from trl import GRPOConfig

LOSS_TYPES = ["grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"]
LEVELS = ["token", "sequence"]


def loss_and_gradient(run, *, step):
    """Sample as the trainer would, take ``step`` random steps of the weights, and return loss, gradient, batch."""
    trainer = run.trainer
    trainer.model.train()
    trainer.current_gradient_accumulation_steps = 1
    rows = [trainer.get_train_dataloader().dataset[k // 4] for k in range(8)]
    torch.manual_seed(3)
    batch = trainer._generate_and_score_completions(rows)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for _, values in sorted(trainer.model.named_parameters()):
            values.add_(torch.randn(values.shape, generator=generator), alpha=step)
    loss = trainer._compute_loss(trainer.model, batch)
    loss.backward()
    gradient = [values.grad.flatten() for _, values in sorted(trainer.model.named_parameters())]
    return loss.detach(), torch.cat(gradient).double(), batch


def assert_same_loss(ours, stock, *, step=0.01):
    (loss, gradient, batch), (expected, expected_gradient, stock_batch) = (
        loss_and_gradient(run, step=step) for run in (ours, stock)
    )
    assert ours.completions == stock.completions
    ours_advantages = batch["triptych_batch"].advantages
    torch.testing.assert_close(ours_advantages, stock_batch["advantages"], atol=1e-6, rtol=0)
    assert expected_gradient.norm() > 1e-3
    torch.testing.assert_close(loss, expected, atol=2e-6, rtol=1e-5)
    assert (gradient - expected_gradient).norm() < 2e-5 * expected_gradient.norm()


def test_no_loss_type_is_missing():
    help_text = GRPOConfig.__dataclass_fields__["loss_type"].metadata["help"]
    named = set(re.findall(r"'(\w+)'", help_text.split("Supported values are")[1].split(". '")[0]))
    assert named == set(LOSS_TYPES)


@pytest.mark.slow_except("vespo-sequence")
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("loss_type", LOSS_TYPES)
def test_loss_types(build_ours, build_stock, write_rows, loss_type, level):
    changes = {"loss_type": loss_type, "importance_sampling_level": level, "num_iterations": 2, "beta": 0.05}
    data = write_rows([2, 1])
    assert_same_loss(build_ours(data, **changes), build_stock(data, **changes))


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"top_entropy_quantile": 0.3},
        {"entropy_coef": 0.1},
        {"entropy_coef": 0.1, "use_adaptive_entropy": True, "entropy_target": 9.0, "top_entropy_quantile": 0.5},
        {"delta": 1.1, "epsilon": 0.1, "epsilon_high": 0.3, "scale_rewards": "none"},
        {"off_policy_mask_threshold": 0.01},
        {"beta": 0.1, "use_bias_correction_kl": False, "scale_rewards": "batch"},
        {"temperature": 0.7, "top_p": 0.9, "top_k": 50, "repetition_penalty": 1.1},
        {"pad_to_multiple_of": 8, "disable_dropout": True},
        {"multi_objective_aggregation": "normalize_then_sum"},
    ],
    ids=lambda changes: "-".join(changes),
)
def test_options_of_the_loss(build_ours, build_stock, write_rows, changes):
    data = write_rows([2, 1])
    changes = {"num_iterations": 2, **changes}
    assert_same_loss(build_ours(data, **changes), build_stock(data, **changes))


@pytest.mark.slow
def test_truncated_completions_beside_finished_ones(build_ours, build_stock, write_rows, options):
    data = write_rows([2, 1])
    options["generation_kwargs"]["exponential_decay_length_penalty"] = (0, 1.3)  # ends some of the random texts
    ours, stock = (
        build(data, mask_truncated_completions=True, num_iterations=2) for build in (build_ours, build_stock)
    )
    assert_same_loss(ours, stock)
    ended = [ids[-1] in ours.trainer.eos_token_ids for ids in ours.completions[0]]
    assert any(ended)
    assert not all(ended)


def test_truncated_completions_alone_give_no_loss(build_ours, write_rows):
    run = build_ours(write_rows([2, 1]), mask_truncated_completions=True, max_completion_length=1)
    rows = [run.trainer.get_train_dataloader().dataset[k // 4] for k in range(8)]
    batch = run.trainer._generate_and_score_completions(rows)
    assert not any(rollout.num_trained for rollout in batch["triptych_batch"].rollouts)
    run.trainer.current_gradient_accumulation_steps = 1
    loss = run.trainer._compute_loss(run.trainer.model, batch)
    loss.backward()
    assert loss == 0

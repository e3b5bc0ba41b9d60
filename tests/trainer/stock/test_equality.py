"""Triptych against stock TRL on the same model, data and seed in float32: the same completions and parameters.

Stock TRL crashes on a generation batch that mixes rows with and without images, so the two kinds are compared apart.
"""

import pytest
import torch
from peft import LoraConfig

IMAGES = [1, 2, 5, 3]
TEXT = [0, 0, 0, 0]
SGD = {"optim": "sgd", "learning_rate": 0.02, "max_grad_norm": 0.0}
ADAMW = {"optim": "adamw_torch", "learning_rate": 1e-4}
TOLERANCE = 1e-4
LOGGED = ("loss", "grad_norm", "reward", "reward_std", "entropy", "completions/mean_length", "num_tokens")


def assert_equal_runs(ours, stock, initial, *, of_update):
    assert len(stock.completions) == len(ours.completions)
    assert ours.completions == stock.completions
    moved = (stock.parameters - initial).norm()
    assert moved > 1e-3, "training has to move the parameters for the comparison to say anything"
    difference = (ours.parameters - stock.parameters).norm()
    assert difference / stock.parameters.norm() < TOLERANCE
    if of_update:
        assert difference / moved < TOLERANCE


@pytest.mark.slow_except("sgd-images")
@pytest.mark.parametrize("counts", [IMAGES, TEXT], ids=["images", "text"])
@pytest.mark.parametrize("optimizer", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_five_steps(train_ours, train_stock, write_rows, initial, counts, optimizer):
    """Activations are saved with SGD, as `train` chooses, so that the policy pass goes on from generation's prompts."""
    data = write_rows(counts)
    changes = {**optimizer, "gradient_checkpointing": optimizer is ADAMW}
    stock, ours = train_stock(data, **changes), train_ours(data, **changes)
    assert ours.trainer.engine.prompts.taken == (5 if optimizer is SGD else 0)
    assert_equal_runs(ours, stock, initial, of_update=optimizer is SGD)
    for name in LOGGED if optimizer is SGD else ():
        assert len(stock.logged(name)) == 5
        assert ours.logged(name) == pytest.approx(stock.logged(name), rel=1e-3, abs=1e-5), name


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_a_reference_model_and_two_iterations(train_ours, train_stock, write_rows, initial, optimizer):
    data = write_rows(IMAGES)
    changes = {**optimizer, "max_steps": 3, "beta": 0.1, "num_iterations": 2, "temperature": 0.9}
    stock, ours = train_stock(data, **changes), train_ours(data, **changes)
    assert_equal_runs(ours, stock, initial, of_update=optimizer is SGD)
    assert ours.logged("kl")[-1] == pytest.approx(stock.logged("kl")[-1], rel=1e-3)


@pytest.mark.slow
def test_a_reference_model_that_follows_the_policy(train_ours, train_stock, write_rows, initial):
    data = write_rows(IMAGES)
    changes = {**SGD, "max_steps": 3, "freeze_vision": True, "beta": 0.1, "num_iterations": 2}
    changes |= {"sync_ref_model": True, "ref_model_sync_steps": 1, "ref_model_mixup_alpha": 0.5}
    stock, ours = train_stock(data, **changes), train_ours(data, **changes)
    assert_equal_runs(ours, stock, initial, of_update=True)
    references = [dict(run.trainer.ref_model.named_parameters()) for run in (ours, stock)]
    for name, expected in references[1].items():
        torch.testing.assert_close(references[0][name], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.slow
def test_two_iterations_accumulation_and_a_frozen_tower(train_ours, train_stock, write_rows, initial):
    data = write_rows(IMAGES)
    changes = {**SGD, "max_steps": 3, "freeze_vision": True, "beta": 0.1}
    changes |= {"num_iterations": 2, "gradient_accumulation_steps": 2}
    stock, ours = train_stock(data, **changes), train_ours(data, **changes)
    assert_equal_runs(ours, stock, initial, of_update=True)


@pytest.mark.slow
def test_adapters_with_a_reference_and_two_iterations(train_ours, train_stock, write_rows, model_dir):
    data = write_rows(IMAGES)
    runs = []
    for train in (train_stock, train_ours):
        torch.manual_seed(0)  # adapters are drawn before the trainers set their seed
        lora = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM")
        runs.append(train(data, **SGD, peft_config=lora, max_steps=3, beta=0.1, num_iterations=2))
    stock, ours = runs
    assert ours.completions == stock.completions
    trained = [name for name, values in ours.trainer.model.named_parameters() if values.requires_grad]
    assert any("visual" in name for name in trained)
    moved = stock.trained_adapters.norm()
    assert moved > 1e-3
    assert (ours.trained_adapters - stock.trained_adapters).norm() < TOLERANCE * moved

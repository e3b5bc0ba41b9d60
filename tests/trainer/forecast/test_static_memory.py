"""Bytes that lie in memory whatever the batch, against real optimizers and models; and the arithmetic of a step."""

import pytest
import torch
from planned_runs import run_config
from transformers import Trainer
from triptych_trainer.demo import build_model
from triptych_trainer.forecast.skeleton import build_skeleton
from triptych_trainer.forecast.static_memory import static_memory_of
from triptych_trainer.forecast.step import step_shape
from triptych_trainer.grpo.groups import GroupSplitError


def model_bytes(model: torch.nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in model.parameters())


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", ["adamw_torch_fused", "sgd", "adafactor", "rmsprop"])
def test_optimizer_state_is_what_the_optimizer_makes(optimizer):
    config = run_config(optim=optimizer)
    model = build_model(0)
    states = static_memory_of(build_skeleton(config, model_config=model.config), config)
    kind, options = Trainer.get_optimizer_cls_and_kwargs(config.grpo)
    real = kind(model.parameters(), **options)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    real.step()
    kept = [v for state in real.state.values() for v in state.values() if isinstance(v, torch.Tensor)]
    assert states.optimizer_bytes == pytest.approx(sum(v.numel() * v.element_size() for v in kept), rel=1e-3)
    assert states.weights_bytes == states.gradients_bytes == model_bytes(model)


def test_frozen_parts_adapters_and_a_reference_model():
    model = build_model(0)

    def states(**options):
        config = run_config(**options)
        return static_memory_of(build_skeleton(config, model_config=model.config), config)

    frozen = states(freeze_vision_modules=True, beta=0.1)
    assert frozen.num_trainable == frozen.num_parameters - frozen.num_vision
    assert frozen.gradients_bytes == 4 * frozen.num_trainable
    assert frozen.reference_bytes == model_bytes(model)
    lora = states(use_peft=True, lora_r=4, beta=0.1)
    assert lora.reference_bytes == 0, "the reference is the model without its adapters"
    assert lora.num_trainable < lora.num_parameters / 10


def test_ranks_divide_what_they_shard():
    config = run_config()
    skeleton = build_skeleton(config, model_config=build_model(0).config)
    whole = static_memory_of(skeleton, config)
    ddp, zero2, full = (
        static_memory_of(skeleton, config, num_ranks=4, sharding=sharding) for sharding in ("none", "gradients", "full")
    )
    assert (ddp.optimizer_bytes, ddp.buckets_bytes) == (whole.optimizer_bytes, whole.gradients_bytes)
    assert zero2.gradients_bytes == whole.gradients_bytes // 4
    assert zero2.weights_bytes == whole.weights_bytes
    assert whole.weights_bytes // 4 < full.weights_bytes < whole.weights_bytes


def test_what_a_step_holds():
    shape = step_shape(
        run_config(per_device_train_batch_size=16, num_generations=8, num_train_epochs=2).grpo, num_rows=100
    )
    assert (shape.group_sizes, shape.prompts_per_generation) == ((8, 8), 2)
    assert shape.num_steps == 2 * 50
    assert shape.scored_per_step == 0
    part = step_shape(
        run_config(per_device_train_batch_size=2, num_generations=8, gradient_accumulation_steps=4, beta=0.1).grpo,
        num_rows=10,
    )
    assert (part.group_sizes, part.prompts_per_generation, part.scored_per_step) == ((2,), 1, 4)
    twice = step_shape(
        run_config(num_iterations=2, per_device_train_batch_size=8, num_generations=8, max_steps=7).grpo, num_rows=10
    )
    assert (twice.num_steps, twice.generations_per_step, twice.scored_per_step) == (7, 0.5, 0.5)
    with pytest.raises(GroupSplitError, match="spread over ranks"):
        step_shape(
            run_config(per_device_train_batch_size=4, num_generations=8, generation_batch_size=8).grpo,
            num_rows=10,
            num_ranks=2,
            sized_for_ranks=True,
        )

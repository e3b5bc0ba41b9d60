"""Every family with images that arrive in completions, against its stock forward of each whole trajectory.

The stock model gets, for each trajectory by itself, what its processor returns for the prompt and for every turn. Ours
gets each prompt once and each image once, and completions of 0 to 3 turns.
"""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from triptych_trainer.forward import install_hooks, shared_logps, sliced_logps
from triptych_trainer.forward.batch import BatchError
from triptych_trainer.forward.cache_pass import cached_logps
from triptych_trainer.forward.verify import compare, sample
from triptych_trainer.models.families import family_of

TOLERANCE = 1e-5
TURNS = (((), (0,), (1, 0, 2)), ((2, 1),))
"""Which pictures arrive in each completion, one a turn: picture 0 is shared, at different places."""
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning"),  # GLM's
    pytest.mark.filterwarnings("ignore:attention of shared prompts is computed under masks. its values"),  # Kimi's
]


def trajectories(kits, kit, *, images=(2, 0)):
    return kits.build_trajectories(kit.case, kit.model(), kit.processor, images=images, turns=TURNS)


def assert_equal_to_stock(lab, kits, kit, *passes):
    made, stock = trajectories(kits, kit), kit.stock
    expected = kits.stock_trajectory_logps(stock, made)
    assert (expected[0] != 0).sum() == sum(sum(row) for group in made.batch.trained for row in group)
    lab.weighted_loss(*expected).backward()
    gradients = lab.gradients(stock)
    for run in passes:
        model = kit.model()
        got = run(model, made.batch)
        lab.weighted_loss(*got).backward()
        for value, reference in zip(got, expected, strict=True):
            assert (value - reference).abs().max() < TOLERANCE
        lab.assert_same_gradients(lab.gradients(model), gradients, tolerance=TOLERANCE)


def in_segments(model, batch):
    install_hooks(model, attention="varlen")
    return shared_logps(model, batch, compute_entropy=True)


PASSES = {
    "shared": lambda model, batch: shared_logps(model, batch, compute_entropy=True),
    "cached": cached_logps,
    "sliced": lambda model, batch: sliced_logps(model, batch, rows_per_slice=3),
    "segments": in_segments,
}
ON_EVERY_PATH = ("shared", "segments")


@pytest.mark.slow_except("qwen2_5_vl", "gemma3")
def test_every_pass_equals_the_stock_forward_of_every_trajectory(lab, kits, kit, family_name):
    if family_name.startswith("paligemma"):
        assert "sees the whole prompt" in family_of(kit.stock).no_later_images, "the trainer refuses tools"
        return
    assert family_of(kit.stock).no_later_images is None
    passes = {
        name: run for name, run in PASSES.items() if name in ON_EVERY_PATH or family_of(kit.stock).path != "plain"
    }
    assert_equal_to_stock(lab, kits, kit, *passes.values())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["qwen3_vl", "gemma3", "qwen3_5_moe"])
def test_checkpointed_layers_and_adapters_give_the_gradients_of_the_stock_forward(lab, kits, kit_of, name):
    kit = kit_of(name)
    made = trajectories(kits, kit, images=(1, 2))
    stock = lora(kit.model())
    expected = kits.stock_trajectory_logps(stock.base_model.model, made)
    lab.weighted_loss(*expected).backward()
    gradients = lab.gradients(stock)
    assert gradients, "adapters are trained"
    assert all("lora" in name for name in gradients)
    for run in PASSES.values():
        model = lora(kit.model())
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
        got = run(model, made.batch)
        lab.weighted_loss(*got).backward()
        for value, reference in zip(got, expected, strict=True):
            assert (value - reference).abs().max() < TOLERANCE
        lab.assert_same_gradients(lab.gradients(model), gradients, tolerance=TOLERANCE)


def lora(model):
    """The model with adapters whose second factor is no longer zero."""
    torch.manual_seed(3)
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    return adapted.train()


def test_the_comparison_at_first_use_covers_a_branch_with_a_whole_image(kits, kit_of):
    kit = kit_of("gemma3")
    made = trajectories(kits, kit, images=(2, 1))
    small, kept = sample(made.batch)
    whole = [found.span for row in small.completion_images[0] for found in row]
    assert whole, "an image that arrived is in the sample"
    assert all(span.start + span.length < len(small.completions[0][0]) for span in whole)
    assert len(kept) == len(small.images)
    model = kit.model()
    assert compare(model, made.batch).holds
    family = family_of(model)
    family_class = type(family)
    seen = family_class.image_attention
    try:
        family_class.image_attention = lambda self, config, *, window: "causal"
        assert not compare(model, made.batch).holds, "an image seen one way only is found out"
    finally:
        family_class.image_attention = seen


def test_an_image_with_another_number_of_rows_is_named_by_rollout_turn_and_tool(kits, kit_of):
    kit = kit_of("qwen3_vl")
    made = trajectories(kits, kit)
    images = list(made.batch.images)
    images[1] = {**images[1], "image_grid_thw": torch.tensor([[1, 2, 2]])}
    wrong = made.batch.build(
        made.batch.prompts,
        spans=made.batch.spans,
        image_indices=made.batch.image_indices,
        completions=made.batch.completions,
        images=images,
        trained=made.batch.trained,
        completion_images=made.batch.completion_images,
    )
    with pytest.raises(BatchError, match=r"^turn 1, image 1 of `look`: \d+ placeholder tokens but image 1 "):
        shared_logps(kit.model(), wrong)

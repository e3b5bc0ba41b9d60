"""The load-balancing loss of models with experts: the value and gradient of the stock forward on replicated rows."""

import pytest
import torch
from triptych_trainer.errors import IncompatibleVersionError
from triptych_trainer.forward import plain_logps, shared_logps
from triptych_trainer.forward.router_loss import RouterTap, find_routers
from triptych_trainer.models.families import family_of

STOCK = ("qwen3_vl_moe", "qwen3_5_moe", "glm4v_moe", "ernie4_5_vl_moe")
"""Families whose own forward returns the loss."""


def recorded(model, batch, way):
    """(log-probabilities, loss) of a pass."""
    family = family_of(model)
    router = RouterTap(family.language_model(family.vision_language_model(model)))
    logps, _ = way(model, batch, router=router)
    return logps, router.loss()


@pytest.fixture
def unequal(kit_of):
    """A family's prompts with completions of several lengths, one of them empty."""

    def unequal(name):
        kit = kit_of(name)
        prompts = kit.prompts.select([0, 1, 2])
        completions = [list(group) for group in prompts.batch.completions]
        completions[2].append(())
        return kit, type(prompts)(
            batch=prompts.batch.with_completions(completions), stock=prompts.stock, after_prompt=prompts.after_prompt
        )

    return unequal


@pytest.mark.slow_except("shared_logps-qwen3_vl_moe", "plain_logps-glm4v_moe")
@pytest.mark.parametrize("name", STOCK)
@pytest.mark.parametrize("way", [shared_logps, plain_logps])
def test_equals_the_stock_loss_of_replicated_rows(lab, kits, unequal, name, way):
    kit, prompts = unequal(name)
    stock, model = kit.model(), kit.model()
    inputs = kits.accepted(stock, kits.replicated(kit.case, prompts))
    expected = stock(**inputs, output_router_logits=True).aux_loss
    expected.backward()
    logps, got = recorded(model, prompts.batch, way)
    (got + 0.0 * logps.sum()).backward()
    assert abs(float((got - expected).detach())) < 1e-5
    lab.assert_same_gradients(lab.gradients(model), lab.gradients(stock), tolerance=1e-5)


@pytest.mark.parametrize("name", ["internvl_gpt_oss", "internvl_qwen3_moe"])
def test_a_model_whose_forward_does_not_return_it_gets_the_loss_of_its_text_backbone(lab, unequal, name):
    kit, prompts = unequal(name)
    model, other = kit.model(), kit.model()
    (logps, got), (plain, expected) = (
        recorded(model, prompts.batch, shared_logps),
        recorded(other, prompts.batch, plain_logps),
    )
    (got + 0.0 * logps.sum()).backward()
    (expected + 0.0 * plain.sum()).backward()
    assert abs(float((got - expected).detach())) < 1e-5
    lab.assert_same_gradients(lab.gradients(model), lab.gradients(other), tolerance=1e-5)


def test_a_config_that_asks_for_router_logits_changes_nothing(kit_of):
    """A packed pass failed: the model weighed its tokens by the mask of the pass, which has one element."""
    kit = kit_of("qwen3_vl_moe")
    batch, asking = kit.prompts.batch, kit.model()
    asking.config.text_config.output_router_logits = True
    with torch.no_grad():
        logps, loss = recorded(asking, batch, shared_logps)
        expected, expected_loss = recorded(kit.model(), batch, shared_logps)
    assert torch.equal(logps, expected)
    assert torch.equal(loss, expected_loss)


def test_recording_changes_no_log_probability_and_weights_matter(kit_of):
    kit = kit_of("qwen3_vl_moe")
    model, batch = kit.model(), kit.prompts.batch
    with torch.no_grad():
        logps, loss = recorded(model, batch, shared_logps)
        assert (logps - shared_logps(model, batch)[0]).abs().max() < 1e-6
        once = batch.with_completions([group[:1] for group in batch.completions])
        assert abs(float(loss - recorded(model, once, shared_logps)[1])) > 1e-4


@pytest.mark.parametrize("way", [{"use_reentrant": False}, None])
def test_checkpointed_layers_give_the_same_loss_and_gradient(lab, kit_of, way):
    kit = kit_of("qwen3_vl_moe")
    results = []
    for checkpointing in (False, True):
        model = kit.model()
        if checkpointing and way is not None:
            model.gradient_checkpointing_enable(way)
        logps, loss = recorded(model, kit.prompts.batch, shared_logps)
        (loss + logps.sum()).backward()
        results.append((float(loss.detach()), lab.gradients(model)))
    assert results[0][0] == pytest.approx(results[1][0], abs=1e-6)
    lab.assert_same_gradients(results[1][1], results[0][1], tolerance=1e-5)


def test_a_model_without_routers_is_refused(kit_of):
    model = kit_of("qwen3_vl").model()
    text = family_of(model).language_model(model.model)
    assert find_routers(text) == []
    with pytest.raises(
        IncompatibleVersionError, match=r"Qwen3VLTextModel does not say where its routers are.*router_aux_loss_coef 0"
    ):
        RouterTap(text)

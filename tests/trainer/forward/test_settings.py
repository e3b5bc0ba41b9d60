"""The exactness of the group-shared pass under the settings a training run turns on."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from triptych_trainer.forward import GroupBatch, encode_images, install_hooks, plain_logps, shared_logps
from triptych_trainer.forward import logps as logps_module
from trl.trainer.utils import add_fused_lm_head

TOLERANCE = 1e-5


def compare(lab, stock, model, batch, **arguments):
    """Values and gradients of `shared_logps` on `model` against the stock forward on `stock`."""
    expected = lab.stock_logps(stock, batch)
    lab.weighted_loss(*expected).backward()
    got = shared_logps(model, batch, compute_entropy=True, **arguments)
    lab.weighted_loss(*got).backward()
    for value, reference in zip(got, expected, strict=True):
        assert (value - reference).abs().max() < TOLERANCE
    lab.assert_same_gradients(lab.gradients(model), lab.gradients(stock), tolerance=TOLERANCE)


@pytest.mark.slow_except("True")
@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing(lab, reentrant):
    stock = lab.qwen2_5_vl().train()
    model = copy.deepcopy(stock)
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    model.enable_input_require_grads()
    compare(lab, stock, model, lab.qwen_batch())


TEXT_LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj"]


# torch's own notice about a frozen tower under reentrant checkpointing; the stock forward raises it, too.
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad:UserWarning")
# Reentrant checkpointing cannot train adapters inside a frozen tower (its input takes no gradient), in any trainer.
@pytest.mark.slow_except("targets2-True")
@pytest.mark.parametrize(
    ("targets", "checkpointing"), [("all-linear", None), ("all-linear", False), (TEXT_LINEARS, True)]
)
def test_lora(lab, targets, checkpointing):
    base = lab.qwen2_5_vl()
    torch.manual_seed(5)
    stock = get_peft_model(base, LoraConfig(target_modules=targets, r=4, init_lora_weights=False)).train()
    model = copy.deepcopy(stock)
    if checkpointing is not None:
        model.gradient_checkpointing_enable({"use_reentrant": checkpointing})
        model.enable_input_require_grads()
    batch = lab.qwen_batch()
    compare(lab, stock, model, batch)
    with torch.no_grad(), stock.disable_adapter(), model.disable_adapter():
        reference, _ = lab.stock_logps(stock, batch)
        assert (shared_logps(model, batch)[0] - reference).abs().max() < TOLERANCE


def test_frozen_tower_with_kept_features(lab):
    stock = lab.qwen2_5_vl().train()
    stock.model.visual.requires_grad_(False)
    model = copy.deepcopy(stock)
    batch = lab.qwen_batch()
    with torch.no_grad():
        features = encode_images(model, batch.images)
    model.model.visual.forward = None  # the tower cannot run again
    compare(lab, stock, model, batch, features=features)


def test_features_of_a_micro_batch(lab):
    model = lab.qwen2_5_vl()
    batch = lab.qwen_batch()
    whole, _ = shared_logps(model, batch)
    part, kept = batch.select([3, 1])
    features = encode_images(model, batch.images).select(kept)
    some, _ = shared_logps(model, part, features=features, width=whole.shape[1])
    assert kept == (3, 4, 5, 6, 7)
    assert (some - whole[[9, 10, 11, 3, 4, 5]]).abs().max() < TOLERANCE


def test_the_same_image_at_two_markers_is_encoded_once(lab):
    stock = lab.qwen2_5_vl().train()
    model = copy.deepcopy(stock)
    batch = lab.qwen_batch(lab.Recipe(images=(1,), completions=((4, 2),)))
    (span,), ids = batch.spans[0], batch.prompts[0]
    again = type(span)(
        start=span.start + len(ids),
        length=span.length,
        image=0,
        runs=tuple((start + len(ids), length) for start, length in span.runs),
    )
    twice = GroupBatch.build(
        [ids + ids], spans=[[span, again]], image_indices=[[0]], images=batch.images, completions=batch.completions
    )
    calls = []
    model.model.visual.register_forward_hook(lambda module, args, output: calls.append(args[0].shape[0]))
    compare(lab, stock, model, twice)
    assert calls == [batch.images[0]["pixel_values"].shape[0]]


def test_one_tower_call_per_pass_whatever_the_group_size(lab):
    model = lab.qwen2_5_vl()
    patches = []
    model.model.visual.register_forward_hook(lambda module, args, output: patches.append(args[0].shape[0]))
    for size in (2, 8):
        batch = lab.qwen_batch(lab.Recipe(images=(4,), completions=((3,) * size,)))
        shared_logps(model, batch)
        assert patches.pop() == sum(image["pixel_values"].shape[0] for image in batch.images)
        assert not patches


@pytest.mark.slow_except("several-chunks", "ragged-groups")
@pytest.mark.parametrize(
    "completions",
    [
        pytest.param(((40, 70, 1, 33, 5, 64, 20),), id="several-chunks"),
        pytest.param(((3, 0, 2), (0, 0)), id="empty-completions"),
        pytest.param(((1,), (1, 1)), id="single-tokens"),
        pytest.param(((5, 5, 5), (2,)), id="ragged-groups"),
    ],
)
def test_shapes_of_groups(lab, completions):
    stock = lab.qwen2_5_vl().train()
    model = copy.deepcopy(stock)
    compare(lab, stock, model, lab.qwen_batch(lab.Recipe(images=(2, 1)[: len(completions)], completions=completions)))


@pytest.mark.parametrize("way", [shared_logps, plain_logps])
def test_no_label_at_all_keeps_the_graph(lab, way):
    model = lab.qwen2_5_vl().train()
    batch = lab.qwen_batch(lab.Recipe(images=(1,), completions=((0, 0),)))
    logps, entropies = way(model, batch, compute_entropy=True, width=3)
    assert logps.shape == entropies.shape == (2, 3)
    (logps.sum() + entropies.sum()).backward()
    assert all(g.abs().max() == 0 for g in lab.gradients(model).values())


def test_a_prompt_of_one_token(lab):
    stock = lab.qwen2_5_vl().train()
    model = copy.deepcopy(stock)
    batch = GroupBatch.build([[5], [6, 7]], completions=[[[8, 9, 10], [11]], [[12, 13]]])
    compare(lab, stock, model, batch)


@pytest.mark.parametrize("path", ["packed", "cache"])
def test_prompts_of_one_token_whose_completions_are_all_left_out(lab, monkeypatch, path):
    """The packed row had no token, and the prompts' cache none either."""
    monkeypatch.setattr(logps_module, "sharing_path", lambda model: path)
    model = lab.qwen2_5_vl().train()
    logps, entropies = shared_logps(model, GroupBatch.build([[5]], completions=[[[], []]]), compute_entropy=True)
    assert logps.shape == entropies.shape == (2, 0)
    (logps.sum() + entropies.sum()).backward()
    assert all(g.abs().max() == 0 for g in lab.gradients(model).values())


def test_text_only_batch_touches_a_trainable_tower(lab):
    model = lab.qwen2_5_vl().train()
    batch = lab.qwen_batch(lab.Recipe(images=(0, 0), completions=((4, 3), (2, 5))))
    shared_logps(model, batch)[0].sum().backward()
    tower = [p.grad for p in model.model.visual.parameters()]
    assert all(grad is not None and grad.abs().max() == 0 for grad in tower)
    model.zero_grad(set_to_none=True)
    model.model.visual.requires_grad_(False)
    shared_logps(model, batch)[0].sum().backward()
    assert all(p.grad is None for p in model.model.visual.parameters())


@pytest.mark.slow_except("0.6")
@pytest.mark.parametrize("temperature", [1.0, 0.6])
def test_scoring_through_trls_fused_head(lab, temperature):
    stock = lab.qwen2_5_vl().train()
    model = copy.deepcopy(stock)
    add_fused_lm_head(model, temperature=temperature, outputs=("log_probs", "entropy"))
    batch = lab.qwen_batch()
    expected = lab.stock_logps(stock, batch, temperature=temperature)
    lab.weighted_loss(*expected).backward()
    got = shared_logps(model, batch, compute_entropy=True, fused_lm_head=True)
    lab.weighted_loss(*got).backward()
    for value, reference in zip(got, expected, strict=True):
        assert (value - reference).abs().max() < TOLERANCE
    lab.assert_same_gradients(lab.gradients(model), lab.gradients(stock), tolerance=TOLERANCE)


def test_bfloat16_is_not_noisier_than_bfloat16_itself(lab):
    model = lab.qwen2_5_vl().train()
    batch = lab.qwen_batch()
    exact = plain_logps(model, batch, compute_entropy=True)
    lab.weighted_loss(*exact).backward()
    exact_grads = lab.gradients(model)
    errors = {}
    for name, way in (("plain", plain_logps), ("shared", shared_logps)):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = way(model, batch, compute_entropy=True)
        lab.weighted_loss(*got).backward()
        grads = lab.gradients(model)
        squares = sum(float((grads[n] - g).square().sum()) for n, g in exact_grads.items())
        total = sum(float(g.square().sum()) for g in exact_grads.values())
        errors[name] = (float((got[0] - exact[0]).detach().square().mean().sqrt()), (squares / total) ** 0.5)
    assert errors["plain"][0] > 1e-4
    assert errors["shared"][0] < 1.5 * errors["plain"][0]
    assert errors["shared"][1] < 1.5 * errors["plain"][1]


def test_padding_token_rows_of_the_embedding_get_the_stock_gradient(lab):
    stock = lab.qwen2_5_vl().train()
    stock.model.language_model.embed_tokens.padding_idx = 17
    model = copy.deepcopy(stock)
    batch = GroupBatch.build([[5, 17, 6]], completions=[[[8, 17, 10], [11]]])
    compare(lab, stock, model, batch)


def test_a_plain_call_of_a_prepared_model_is_untouched(lab):
    stock = lab.qwen2_5_vl()
    model = copy.deepcopy(stock)
    install_hooks(model)
    batch = lab.qwen_batch()
    assert torch.equal(lab.stock_logps(stock, batch)[0], lab.stock_logps(model, batch)[0])

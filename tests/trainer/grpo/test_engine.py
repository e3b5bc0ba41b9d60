"""The engine: features are encoded once, kept under their content, told apart by adapters, and forgotten in time."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForImageTextToText, GenerationConfig
from triptych_data import ImageLoader, read_examples
from triptych_trainer.forward import install_hooks
from triptych_trainer.grpo.engine import GroupEngine
from triptych_trainer.grpo.groups import group_batch
from triptych_trainer.grpo.sampler import model_sampler
from triptych_trainer.models.load import freeze_vision_modules, load_processor
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.rollouts.rollout import Rollout, RolloutGroup


@pytest.fixture
def groups(model_dir, write_rows):
    """Three prompts of 1, 0 and 2 images with two completions each, under the keys 5, 6 and 7."""
    completions = [[(20, 21, 22), (23,)], [(24, 25), (26, 27)], [(28,), (29, 30, 31)]]
    with ImageLoader(threads=1) as loader:
        preparer = PromptPreparer(load_processor(str(model_dir)), loader=loader)
        prompts = [preparer(example) for example in read_examples(write_rows([1, 0, 2]))]
    return [
        RolloutGroup(
            key=5 + k,
            prompt=prompt,
            rollouts=tuple(
                Rollout(ids=ids, trained=(True,) * len(ids), messages=(), finish="stop") for ids in completions[k]
            ),
        )
        for k, prompt in enumerate(prompts)
    ]


@pytest.fixture
def model(model_dir):
    found = AutoModelForImageTextToText.from_pretrained(model_dir)
    install_hooks(found)
    return found


@pytest.fixture
def tower_calls(model):
    calls = []
    model.model.visual.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(len(kwargs["grid_thw"])), with_kwargs=True
    )
    return calls


def logps(engine, model, groups, **options):
    return engine.logps(model, group_batch(groups), keys=[group.key for group in groups], **options).logps_BC


def scored_by_itself(model, groups):
    """What an engine finds that has kept nothing."""
    with torch.no_grad():
        return logps(GroupEngine(), model, groups)


def move_tower(model):
    with torch.no_grad():
        for values in model.model.visual.parameters():
            values.add_(torch.randn(values.shape, generator=torch.Generator().manual_seed(1)), alpha=0.3)


def test_images_are_encoded_once_for_all_passes_without_gradient(model, groups, tower_calls):
    engine = GroupEngine()
    batch, keys = group_batch(groups), [5, 6, 7]
    config = GenerationConfig(max_new_tokens=2, do_sample=False, eos_token_id=2, pad_token_id=0)
    with torch.no_grad():
        engine.generate(model, batch, keys=keys, group_sizes=[1, 2, 1], generation_config=config)
        whole = logps(engine, model, groups)
        parts = [logps(engine, model, [group]) for group in groups]
    assert tower_calls == [3], "one call for the three images of the batch"
    assert engine.images_encoded == 3
    assert torch.allclose(whole[4:6, :3], parts[2], atol=1e-6)


def test_a_frozen_tower_runs_in_the_precision_of_the_run(model, groups):
    """Generation encoded in the weights' float32, which flash attention refuses, and every later pass took that."""
    freeze_vision_modules(model)
    found = []
    linear = model.model.visual.blocks[0].attn.qkv
    linear.register_forward_hook(lambda module, args, output: found.append(output.dtype))
    engine = GroupEngine(autocast=lambda: torch.autocast("cpu", dtype=torch.bfloat16))
    config = GenerationConfig(max_new_tokens=1, do_sample=False, eos_token_id=2, pad_token_id=0)
    engine.generate(model, group_batch(groups), keys=[5, 6, 7], group_sizes=[1, 1, 1], generation_config=config)
    assert not torch.is_autocast_enabled("cpu")
    logps(engine, model, groups)
    assert found == [torch.bfloat16]


def test_a_tower_that_is_trained_runs_inside_the_policy_pass(model, groups, tower_calls):
    engine = GroupEngine()
    with torch.no_grad():
        logps(engine, model, groups)
    logps(engine, model, groups).sum().backward()
    assert tower_calls == [3, 3]
    assert all(values.grad is not None for values in model.model.visual.parameters())


@pytest.mark.slow_except("checkpointing")
@pytest.mark.parametrize("checkpoints", [False, True], ids=["whole graph", "checkpointing"])
def test_one_pass_takes_the_graph_that_generation_kept_of_the_tower(model, groups, tower_calls, checkpoints):
    def gradients(engine):
        logps(engine, model, groups).sum().backward()
        found = {name: values.grad for name, values in model.named_parameters()}
        model.zero_grad()
        return found

    model.train()
    expected = gradients(GroupEngine())
    engine = GroupEngine(trains_once=True, checkpoints_tower=checkpoints)
    config = GenerationConfig(max_new_tokens=2, do_sample=False, eos_token_id=2, pad_token_id=0)
    batch = group_batch(groups)
    del tower_calls[:]
    engine.generate(model, batch, keys=[5, 6, 7], group_sizes=[1, 1, 1], generation_config=config)
    layer = model.model.visual.blocks[0]
    assert not layer.gradient_checkpointing, "as it was"
    got = gradients(engine)
    assert tower_calls == [3], "one call of the tower, and the policy pass goes on from it"
    for name, values in expected.items():
        assert (got[name] - values).norm() <= 1e-5 * values.norm(), name
    again = gradients(engine)  # the graph is gone, and the tower runs in the pass
    assert tower_calls == [3, 3]
    torch.testing.assert_close(again, got, atol=1e-5, rtol=1e-4)


def test_a_rank_whose_rollouts_have_ended_goes_along_with_a_row_that_nobody_reads(model, groups):
    config = GenerationConfig(max_new_tokens=3, do_sample=False, eos_token_id=2, pad_token_id=0)
    sampler = model_sampler(
        GroupEngine(),
        model,
        generation_config=config,
        read=None,
        end_ids=[2],
        several_turns=True,
        anywhere=lambda mine: True,
    )
    assert sampler.anywhere(False)
    sampler.sample([group.with_rollouts(()) for group in groups[:1]], [2])
    shapes = []
    model.register_forward_pre_hook(
        lambda module, args, kwargs: shapes.append(tuple(kwargs["input_ids"].shape)), with_kwargs=True
    )
    assert sampler.go_on([], 3) == []
    assert shapes == [(1, 1), (1, 1)], "one prefill and one step of sampling, in each turn"
    assert sampler.go_on([], 3) == []
    assert len(shapes) == 4


def test_an_evaluation_keeps_no_graph(model, groups):
    engine = GroupEngine(trains_once=True)
    config = GenerationConfig(max_new_tokens=2, do_sample=False, eos_token_id=2, pad_token_id=0)
    engine.generate(model.eval(), group_batch(groups), keys=[5, 6, 7], group_sizes=[1, 1, 1], generation_config=config)
    assert engine.kept_tensors()
    assert not any(rows.requires_grad for rows in engine.kept_tensors())


def test_a_frozen_tower_runs_for_no_policy_pass(model, groups, tower_calls):
    freeze_vision_modules(model)
    engine = GroupEngine()
    engine.encode_ahead(model, group_batch(groups), keys=[5, 6, 7])
    logps(engine, model, groups).sum().backward()
    assert tower_calls == [3]


def test_features_are_forgotten_when_the_weights_have_moved(model, groups):
    engine = GroupEngine()
    with torch.no_grad():
        before = logps(engine, model, groups)
        move_tower(model)
        expected = scored_by_itself(model, groups)
        assert (expected - before).abs().max() > 1e-3, "the tower has to matter for the test to say anything"
        torch.testing.assert_close(logps(engine, model, groups)[:2], before[:2], msg="the old features were kept")
        engine.forget()
        torch.testing.assert_close(logps(engine, model, groups), expected)
    assert len(engine.kept_tensors()) == 3
    engine.forget()
    assert engine.kept_tensors() == []


def test_a_generation_of_the_trainer_uses_no_features_of_the_one_before(make_trainer, write_rows):
    trainer = make_trainer(write_rows([1, 2]), per_device_train_batch_size=4)
    rows = [{"row": key} for key in (0, 0, 1, 1)]
    trainer._generate_and_score_completions(rows)
    move_tower(trainer.model)
    batch = trainer._generate_and_score_completions(rows)["triptych_batch"]
    with torch.no_grad():
        ours = logps(trainer.engine, trainer.model, batch.groups)
    torch.testing.assert_close(ours, scored_by_itself(trainer.model, batch.groups))


def test_features_belong_to_an_image_and_not_to_a_place_in_the_batch(model, groups):
    engine = GroupEngine()
    with torch.no_grad():
        logps(engine, model, groups)
        turned = logps(engine, model, groups[::-1])
        assert engine.images_encoded == 3
        torch.testing.assert_close(turned, scored_by_itself(model, groups[::-1]))


def test_an_adapter_on_the_tower_has_features_of_its_own(model, groups):
    lora = LoraConfig(r=2, target_modules=["qkv", "q_proj"], init_lora_weights=False)
    adapted = get_peft_model(model, lora)
    engine = GroupEngine()
    with torch.no_grad():
        with_adapter = logps(engine, adapted, groups)
        with adapted.disable_adapter():
            without = logps(engine, adapted, groups)
            torch.testing.assert_close(without, scored_by_itself(adapted, groups))
        assert engine.images_encoded == 6
        torch.testing.assert_close(logps(engine, adapted, groups), with_adapter)
    assert (with_adapter - without).abs().max() > 1e-4


@pytest.mark.parametrize("options", [{"share_prompts": False}, {"completions_per_slice": 2}], ids=str)
def test_every_way_of_scoring_gives_the_same(model, groups, options):
    expected = logps(GroupEngine(temperature=0.7), model, groups)
    expected.sum().backward()
    gradient = model.lm_head.weight.grad.clone()
    model.zero_grad()
    got = logps(GroupEngine(temperature=0.7, **options), model, groups)
    got.sum().backward()
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(model.lm_head.weight.grad, gradient, atol=1e-5, rtol=1e-4)


def test_every_pass_runs_under_the_run_s_precision(model, groups):
    entered = []

    class Watched(torch.autocast):
        def __enter__(self):
            entered.append(True)
            return super().__enter__()

    engine = GroupEngine(autocast=lambda: Watched("cpu", dtype=torch.bfloat16))
    with torch.no_grad():
        half = logps(engine, model, groups)
    assert entered
    assert 0 < (half - scored_by_itself(model, groups)).abs().max() < 0.2


def test_entropies_are_those_of_the_distribution(model, groups):
    scores = GroupEngine().logps(model, group_batch(groups), keys=[5, 6, 7], compute_entropy=True)
    assert scores.entropies_BC.shape == scores.logps_BC.shape
    assert ((scores.entropies_BC > 0) == (scores.logps_BC != 0)).all()
    assert GroupEngine().logps(model, group_batch(groups), keys=[5, 6, 7]).entropies_BC is None

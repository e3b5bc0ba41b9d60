"""The policy pass goes on from what generation has forwarded of the prompts: the same numbers, gradients and tokens."""

import copy
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForImageTextToText, GenerationConfig
from triptych_data import ImageLoader, read_examples
from triptych_trainer.forward import install_hooks, verify
from triptych_trainer.forward.prompt_graph import why_not_once
from triptych_trainer.forward.verify import SharingWarning
from triptych_trainer.grpo import prompts_once
from triptych_trainer.grpo.engine import GroupEngine
from triptych_trainer.grpo.groups import group_batch
from triptych_trainer.models.load import load_processor
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.rollouts.rollout import Rollout, RolloutGroup

KEYS = [5, 6, 7]
COMPLETIONS = [[(20, 21, 22), (23,)], [(24, 25), ()], [(28,), (29, 30, 31)]]


CONFIG = GenerationConfig(max_new_tokens=3, do_sample=True, top_k=0, eos_token_id=2, pad_token_id=0)


@pytest.fixture
def groups(model_dir, write_rows):
    """Three prompts of 1, 0 and 2 images with two completions each."""
    with ImageLoader(threads=1) as loader:
        preparer = PromptPreparer(load_processor(str(model_dir)), loader=loader)
        prompts = [preparer(example) for example in read_examples(write_rows([1, 0, 2]))]
    return [
        RolloutGroup(
            key=key,
            prompt=prompt,
            rollouts=tuple(Rollout(ids=ids, trained=(True,) * len(ids), messages=(), finish="stop") for ids in rows),
        )
        for key, prompt, rows in zip(KEYS, prompts, COMPLETIONS, strict=True)
    ]


@pytest.fixture
def model(model_dir):
    found = AutoModelForImageTextToText.from_pretrained(model_dir).train()
    install_hooks(found)
    return found


def once(**options):
    return GroupEngine(**{"trains_once": True, "keeps_prompts": True, **options})


@torch.no_grad()
def sampled(engine, model, groups, *, keys=None):
    """As the sampler of a run: without gradients around it, which cut several joined images off their graph once."""
    torch.manual_seed(0)
    keys = [group.key for group in groups] if keys is None else keys
    sizes = [2] * len(groups)
    return engine.generate(model, group_batch(groups), keys=keys, group_sizes=sizes, generation_config=CONFIG)


def passed(engine, model, groups):
    """Log-probabilities of a policy pass, and all gradients of a weighted sum of them."""
    scores = engine.logps(model, group_batch(groups), keys=[group.key for group in groups], compute_entropy=True)
    weights = torch.linspace(-1, 2, scores.logps_BC.numel()).view_as(scores.logps_BC)
    (scores.logps_BC * weights).sum().backward()
    found = {name: values.grad for name, values in model.named_parameters()}
    model.zero_grad()
    return scores, found


@pytest.mark.slow_except("branches merged-two, in another order")
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0)], ids=["all prompts", "two, in another order"])
@pytest.mark.parametrize("merge_tokens", [0, 10**9], ids=["branches merged", "branches masked"])
def test_the_same_tokens_numbers_and_gradients(monkeypatch, model, groups, order, merge_tokens):
    monkeypatch.setattr("triptych_trainer.forward.attention.MERGE_TOKENS", merge_tokens)
    plain, engine = GroupEngine(), once()
    expected_tokens = sampled(plain, model, groups)
    trained = [groups[k] for k in order]
    expected, gradients = passed(GroupEngine(), model, trained)
    tokens = []
    model.model.language_model.register_forward_pre_hook(
        lambda module, args, kwargs: tokens.append(kwargs["inputs_embeds"].shape[1]), with_kwargs=True
    )
    assert sampled(engine, model, groups) == expected_tokens
    del tokens[:]
    got, found = passed(engine, model, trained)
    assert engine.prompts.taken == 1
    assert tokens[0] == sum(len(ids) for k in order for ids in COMPLETIONS[k]), "no token of a prompt but its last ones"
    for name in ("logps_BC", "entropies_BC"):
        assert (getattr(got, name) - getattr(expected, name)).abs().max() < 1e-5
    for name, values in gradients.items():
        assert (found[name] - values).norm() <= 1e-5 * values.norm(), name
    again, _ = passed(engine, model, trained)  # what was kept is used once
    assert engine.prompts.taken == 1
    assert (again.logps_BC - expected.logps_BC).abs().max() < 1e-5


def test_prompts_that_were_not_sampled_from_are_forwarded_anew(model, groups):
    engine = once()
    sampled(engine, model, groups[:2])
    expected, _ = passed(GroupEngine(), model, groups)
    got, _ = passed(engine, model, groups)
    assert engine.prompts.taken == 0
    assert torch.equal(got.logps_BC, expected.logps_BC)


def test_completions_that_are_all_left_out_end_no_run(model, groups):
    """The row of the branches had no token, as where every completion of a batch was cut and is masked."""
    engine = once()
    sampled(engine, model, groups)
    empty = [
        replace(group, rollouts=tuple(replace(each, ids=(), trained=()) for each in group.rollouts)) for group in groups
    ]
    scores, gradients = passed(engine, model, empty)
    assert scores.logps_BC.shape == (6, 0)
    assert all(values.abs().max() == 0 for values in gradients.values())
    engine.forget()
    sampled(engine, model, groups)
    expected, _ = passed(GroupEngine(), model, [empty[0], *groups[1:]])
    got, _ = passed(engine, model, [empty[0], *groups[1:]])
    assert engine.prompts.taken == 1
    assert (got.logps_BC - expected.logps_BC).abs().max() < 1e-5


def test_a_tower_whose_features_were_known_without_a_graph_still_learns(model, groups):
    engine = once()
    with torch.no_grad():
        engine.features(model, group_batch(groups), keys=KEYS)
    sampled(engine, model, groups)
    assert not engine.prompts.tensors
    _, expected = passed(GroupEngine(), model, groups)
    _, got = passed(engine, model, groups)
    for name, values in expected.items():
        assert (got[name] - values).norm() <= 1e-5 * values.norm(), name


def test_weights_that_have_moved_forget_the_prompts(model, groups):
    engine = once()
    sampled(engine, model, groups)
    assert engine.prompts.tensors
    engine.forget()
    assert not engine.prompts.tensors


def scaled_unseen(weight):
    weight.data.mul_(1.5)  # has no version


def scaled(weight):
    with torch.no_grad():
        weight.mul_(1.5)  # on which torch's own backward pass would end


def replaced(weight):
    weight.data = weight.data * 1.5


@pytest.mark.parametrize("change", [scaled_unseen, scaled, replaced])
@pytest.mark.parametrize("part", ["language_model.layers.1.mlp.up_proj", "visual.blocks.0.mlp.up_proj"])
def test_weights_that_a_reward_changed_are_seen_in_every_step(model, groups, change, part):
    engine = once()
    sampled(engine, model, groups)
    passed(engine, model, groups)  # the comparison at first use sees no later change
    assert engine.prompts.taken == 1
    engine.forget()
    sampled(engine, model, groups)
    change(model.model.get_submodule(part).weight)
    with pytest.warns(UserWarning, match=rf"\(model.{part}.weight\) were changed between sampling and the policy pass"):
        got, gradients = passed(engine, model, groups)
    expected, wanted = passed(GroupEngine(), model, groups)
    assert engine.prompts.taken == 1
    assert torch.equal(got.logps_BC, expected.logps_BC)
    for name, values in wanted.items():
        assert (gradients[name] - values).norm() <= 1e-5 * values.norm(), name


def checkpointing(model):
    model.gradient_checkpointing_enable({"use_reentrant": False})


def dropping(model):
    model.config.get_text_config().attention_dropout = 0.1


def evaluating(model):
    model.eval()


@pytest.mark.parametrize("change", [checkpointing, dropping, evaluating])
def test_no_prompt_is_kept_where_a_pass_could_not_go_on_from_it(model, groups, change):
    change(model)
    engine = once()
    if change is not checkpointing:  # which generation itself refuses while it is on
        sampled(engine, model, groups)
    assert not engine.prompts.tensors
    assert engine.prompts.keeper(model, keys=KEYS) is None
    assert (why_not_once(model) is None) is (change is evaluating)


def test_a_pass_that_differs_is_not_used_and_said(monkeypatch, model, groups):
    def differs(*args, **kwargs):
        return verify.Agreement(difference=1.0, tolerance=1e-3, num_tokens=4)

    monkeypatch.setattr(prompts_once, "agreement_with_plain", differs)
    engine = once()
    expected, _ = passed(GroupEngine(), copy.deepcopy(model), groups)
    sampled(engine, model, groups)
    with pytest.warns(SharingWarning, match="goes on from what generation forwarded differs"):
        got, _ = passed(engine, model, groups)
    assert (got.logps_BC - expected.logps_BC).abs().max() < 1e-5
    sampled(engine, model, groups)
    assert not engine.prompts.tensors


def test_the_comparison_sees_a_wrong_number(model, groups):
    batch = group_batch(groups)
    with torch.no_grad():
        logps_BC = GroupEngine().logps(model, batch, keys=KEYS).logps_BC
    for change, holds in ((0.0, True), (0.1, False)):
        found = verify.agreement_with_plain(model, batch, logps_BC + change, temperature=1.0, features=None)
        assert found.holds is holds

"""A run compares its model with itself as transformers runs it, and ends in one sentence where they differ."""

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from transformers import GenerationConfig
from triptych_data import ImageLoader, read_examples
from triptych_parser import ImageSpan
from triptych_trainer.commands.train import main
from triptych_trainer.forward import install_hooks, shared_generate
from triptych_trainer.forward.prefill import prefilled
from triptych_trainer.forward.verify import SharingWarning
from triptych_trainer.models.families import Family, by_model_type, family_of
from triptych_trainer.models.families.qwen_vl import QwenVLFamily
from triptych_trainer.models.load import load_processor
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.verification import first_use
from triptych_trainer.verification.comparison import Comparison
from triptych_trainer.verification.first_tokens import has_own_generate
from triptych_trainer.verification.first_use import (
    VerificationError,
    chosen,
    probe,
    verify_comparison,
    verify_first_use,
)

# transformers' own, in stock processors
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")


def prompt_of(*, images=0, length=10, ids=None):
    """As much of a prepared prompt as the choice needs."""
    spans = tuple(ImageSpan(start=2 * k, length=1, image=k, runs=((2 * k, 1),)) for k in range(images))
    return SimpleNamespace(ids=list(range(length)) if ids is None else ids, spans=spans)


def test_the_prompt_with_the_most_images_is_chosen_and_a_short_one_with_another_number():
    assert chosen([prompt_of(images=1), prompt_of(images=3, length=30), prompt_of(images=3, length=20)]) == [2, 0]
    assert chosen([prompt_of(images=2), prompt_of(images=2, length=5), prompt_of(images=0, length=50)]) == [1, 2]
    assert chosen([prompt_of(images=2), prompt_of(images=2, length=5)]) == [1, 0]
    assert chosen([prompt_of()]) == [0]


def test_a_generate_that_a_script_has_put_on_a_model_is_not_compared_and_that_is_said(kit_of):
    model = kit_of("llava").model()
    assert not has_own_generate(model)
    model.generate = lambda **given: given["input_ids"]
    with pytest.warns(UserWarning, match="`generate` of this LlavaForConditionalGeneration was replaced by a function"):
        assert has_own_generate(model)


def test_the_probe_is_the_last_text_of_the_prompt():
    prompt = prompt_of(images=2, ids=[7, 40, 7, 41, 99, 42])
    assert probe(prompt, special_ids={99}) == (40, 41, 42)
    assert probe(prompt_of(length=40), special_ids=()) == tuple(range(24, 40))
    assert probe(prompt_of(images=1, ids=[7]), special_ids=()) == (7,)


WRONG = {
    "qwen2_5_vl": r"\(something_new\) differ from its own forward by .* because of its positions; write an adapter",
    "qwen3_vl": "differ from its own forward by .* because of its features and positions; write",
    "gemma3": "differ from its own forward by .* because of its masks; .* or pass this check with --verify_model off",
    "glm46v": "differ from its own forward by .* because of its positions",
    "smolvlm": r"\(something_new\) runs by its own forward but not through the adapter for unknown types, on prompt",
    "paligemma": "would sample its first tokens from another distribution than its own forward gives, by",
}


@pytest.mark.slow_except("gemma3", "qwen2_5_vl")
@pytest.mark.parametrize("name", WRONG)
def test_a_type_that_needs_an_adapter_is_refused_under_a_name_that_nobody_knows(kit_of, rows_of, name, monkeypatch):
    """Also where nothing of its class gives it away, which `family_of` would refuse by itself."""
    monkeypatch.setattr(by_model_type, "_generic_fails", lambda model: None)
    kit = kit_of(name)
    model = kit.model().eval()
    model.config.model_type = "something_new"
    assert type(family_of(model)) is Family
    batch, rows = rows_of(kit)
    with pytest.raises(VerificationError, match=WRONG[name]) as caught:
        verify_comparison(model, batch, rows, open_for_sampling=lambda: nullcontext(model))
    assert "\n" not in str(caught.value)


def test_a_type_that_needs_none_passes_under_a_name_that_nobody_knows(kit_of, rows_of):
    kit = kit_of("vipllava")
    model = kit.model().train()
    model.config.model_type = "something_new"
    install_hooks(model)
    verify_comparison(model, *rows_of(kit))


def test_ids_that_the_model_itself_refuses_are_one_sentence(kit_of, rows_of):
    kit = kit_of("llava")
    batch, rows = rows_of(kit)
    short = {name: values[:, 1:] if name == "pixel_values" else values for name, values in rows[0].inputs.items()}
    short["pixel_values"] = rows[0].inputs["pixel_values"][:1]
    broken = [first_use.ComparedRow(where="rows.jsonl:3", inputs=short, completion=rows[0].completion), rows[1]]
    with pytest.raises(
        VerificationError, match=r"refuses the ids or images of rows\.jsonl:3: .*; use the processor that"
    ):
        verify_comparison(kit.model(), batch, broken)


@pytest.fixture
def at_prefill(kit_of, rows_of):
    """A model, and its comparison on two prompts of a batch of four, to be called with a prefill of that batch."""

    def at_prefill(name, *, prepared=lambda model: None):
        kit, waiting = kit_of(name), []
        model = kit.model()
        prepared(model)
        verify_comparison(model, *rows_of(kit), open_for_sampling=lambda: nullcontext(model), at_prefill=waiting.append)
        return model, kit.prompts.batch, waiting[0]

    return at_prefill


@torch.no_grad()
def prefilled_of(model, batch):
    """The prompts of a batch as a run prefills them."""
    return prefilled(model, batch, features=None, pad_id=0)


def counted(layer):
    """The number of positions that each later call of a layer gets."""
    numbers = []
    layer.register_forward_pre_hook(lambda module, args: numbers.append(args[0].shape[1]))
    return numbers


@pytest.mark.parametrize("name", ["qwen2_5_vl", pytest.param("gemma3", marks=pytest.mark.slow), "qwen3_5"])
def test_the_run_s_own_prefill_is_compared_and_stays_as_it_was(at_prefill, name):
    model, batch, compare = at_prefill(name)
    config = GenerationConfig(do_sample=False, max_new_tokens=4, pad_token_id=0)
    sampled, given = [], []

    def compare_once(begun):
        given.append(begun.layout.ids.shape)
        compare(model, batch, begun)

    for on_prefill in (None, compare_once):
        sampled.append(
            shared_generate(model, batch, num_generations=2, generation_config=config, on_prefill=on_prefill)
        )
    assert sampled[0] == sampled[1]
    assert [num_prompts for num_prompts, _ in given] == [len(batch.prompts)]


def test_a_prefill_with_the_images_of_another_row_is_not_taken_for_this_row_s(at_prefill):
    """Two rows may have equal ids; and prompts that an environment changed are prefilled once more."""
    model, batch, compare = at_prefill("qwen2_5_vl")
    images = tuple({**inputs, "pixel_values": inputs["pixel_values"] + 1} for inputs in batch.images)
    for others in (replace(batch, images=images), batch.select([0, 1])[0]):
        prefills = counted(model.model.language_model.layers[0])
        begun = prefilled_of(model, others)
        prefills.clear()
        compare(model, others, begun)
        assert max(prefills) > len(batch.prompts), "more than one token of each"


def test_a_prefill_with_dropout_is_compared_once_more_without_it(at_prefill):
    def drop(model):
        model.model.language_model.norm = torch.nn.Sequential(model.model.language_model.norm, torch.nn.Dropout(0.5))

    model, batch, compare = at_prefill("qwen2_5_vl", prepared=drop)
    begun = prefilled_of(model.train(), batch)
    for layer in begun.cache.layers:
        layer.keys *= 2  # as dropout would change them, and more
    compare(model, batch, begun)
    with pytest.raises(VerificationError, match="would sample its first tokens from another distribution"):
        compare(model.eval(), batch, begun)


@pytest.fixture
def command(model_dir, write_rows, tmp_path):
    """A command line that trains one tiny step on two images and on none."""
    return [
        *("--model_name_or_path", str(model_dir), "--output_dir", str(tmp_path / "out"), "--max_steps", "1"),
        *("--per_device_train_batch_size", "4", "--num_generations", "2", "--max_completion_length", "3"),
        *("--data", str(write_rows([2, 0])), "--reward", "format", "--quiet", "--memory_forecast", "false"),
    ]


def test_a_run_on_wrong_positions_ends_in_one_sentence_before_it_samples(command, monkeypatch, capsys):
    monkeypatch.setattr(QwenVLFamily, "positions", lambda self, *args, **given: Family().positions(*args, **given))
    monkeypatch.setattr(QwenVLFamily, "position_ids", lambda self, values: values[:1].expand(3, -1, -1))
    assert main(command) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert "train: error: the log-probabilities of Qwen2_5_VLForConditionalGeneration (qwen2_5_vl) differ" in said
    assert "rows.jsonl:1: example row-0 (rounding: at most 0.001), because of its positions; write an adapter" in said
    assert main([*command, "--verify_model", "off"]) == 0


@pytest.mark.slow
def test_a_run_on_a_model_that_samples_from_other_positions_ends_in_one_sentence(command, monkeypatch, capsys):
    monkeypatch.setattr(QwenVLFamily, "continue_generation", lambda self, model, *, next_minus_length_B: {})
    assert main(command) == 2
    said = capsys.readouterr().err
    assert "would sample its first tokens from another distribution than its own forward gives, by" in said
    assert "write `continue_generation` of its adapter" in said


@pytest.mark.slow
def test_the_comparison_runs_once_on_the_run_s_own_prefill_and_its_keyword_switches_it_off(
    make_trainer, write_rows, monkeypatch
):
    calls, stock = [], Comparison.sampling

    def sampling(self, open_model, *, begun=None):
        calls.append([len(spans) for spans in self.batch.spans])
        assert begun is not None
        return stock(self, open_model, begun=begun)

    monkeypatch.setattr(Comparison, "sampling", sampling)
    make_trainer(write_rows([1, 2, 0, 3]), max_steps=2).train()
    assert calls == [[3, 0]]
    make_trainer(write_rows([1, 2, 0, 3]), max_steps=1, verify_model=False).train()
    assert len(calls) == 1


@pytest.fixture
def preparer(model_dir):
    with ImageLoader(threads=1) as loader:
        yield PromptPreparer(load_processor(str(model_dir)), loader=loader)


def test_a_processor_that_fails_is_a_warning_for_a_tested_type_and_an_error_for_any_other(
    preparer, write_rows, kit_of, monkeypatch
):
    monkeypatch.setattr(first_use, "stock_inputs", lambda prompt, preparer: {}["image_grid"])
    prompts = [preparer(example) for example in read_examples(write_rows([1]))]
    model = kit_of("qwen2_5_vl").model()
    with pytest.warns(SharingWarning, match="cannot be compared with its own forward: its processor ends in KeyError"):
        verify_first_use(model, prompts, preparer, open_for_sampling=None)
    model.config.model_type = "something_new"
    with pytest.raises(VerificationError, match=r"\(something_new\) cannot be compared .*KeyError.*--verify_model off"):
        verify_first_use(model, prompts, preparer, open_for_sampling=None)


def test_a_processor_that_fails_on_another_rank_is_said_on_this_one(preparer, write_rows, kit_of, monkeypatch):
    monkeypatch.setattr(first_use, "of_ranks", lambda mine: [mine, "KeyError: 'image_grid'"])
    prompts = [preparer(example) for example in read_examples(write_rows([1]))]
    model = kit_of("qwen2_5_vl").model()
    with pytest.warns(SharingWarning, match="cannot be compared with its own forward: its processor ends in KeyError"):
        verify_first_use(model, prompts, preparer, open_for_sampling=None)


def test_a_model_whose_weights_are_no_numbers_is_said_to_have_them(kit_of, rows_of):
    kit = kit_of("qwen2_5_vl")
    model = kit.model()
    install_hooks(model)
    with torch.no_grad():
        model.model.language_model.layers[0].mlp.up_proj.weight[0, 0] = float("nan")
    with pytest.raises(VerificationError, match="gives no numbers on .*: its weights contain NaN"):
        verify_comparison(model, *rows_of(kit))

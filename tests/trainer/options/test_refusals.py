"""Options that cannot hold are refused in one sentence that says what to set instead."""

import json
import re

import pytest
import torch
from transformers import AutoConfig, Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration
from triptych_data import ImageLoader, read_examples
from triptych_trainer.commands.train import main
from triptych_trainer.demo import build_model
from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer
from triptych_trainer.models.load import load_processor
from triptych_trainer.options.refusals import check_router_loss
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.prompts.table import ExampleTable
from trl import GRPOConfig


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dataloader_num_workers": 2}, "dataloader_num_workers 2: .* set --image_threads"),
        ({"use_transformers_continuous_batching": True}, "continuous_batching: .* without images"),
        ({"cast_lm_head_to_fp32": True}, "cast_lm_head_to_fp32: .* tied to its token embeddings"),
        ({"cache_implementation": "static"}, "cache_implementation static: .* leave it out"),
        ({"generation_kwargs": {"num_beams": 2}}, "--generation_kwargs num_beams: .* token by token.*; leave it out"),
        ({"generation_kwargs": {"cache_implementation": "static"}}, "--generation_kwargs cache_implementation: "),
        ({"generation_kwargs": {"top_kk": 3}}, r"--generation_kwargs top_kk: .*did you mean top_k\?"),
        ({"generation_kwargs": {"max_new_tokens": 3}}, "max_new_tokens: set --max_completion_length; leave it out"),
    ],
)
def test_options_are_refused(make_trainer, write_rows, options, message):
    with pytest.raises(UsageError, match=message):
        make_trainer(write_rows([1, 2]), **options)


def test_sampling_arguments_are_taken(make_trainer, write_rows):
    options = {"top_p": 0.9, "no_repeat_ngram_size": 3, "repetition_penalty": 1.1}
    make_trainer(write_rows([1, 2, 0, 1]), generation_kwargs=options, max_steps=1).train()


@pytest.mark.parametrize(
    ("base", "named"), [("some/model", r"\(some/model\)"), (None, r"\(see its adapter_config.json\)")]
)
def test_new_adapters_on_adapters_are_refused_before_anything_is_loaded(tmp_path, capsys, base, named):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": base}))
    assert main(["--model", str(tmp_path), "--data", "rows.jsonl", "--use_peft", "--output_dir", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert re.fullmatch(rf"train: error: --use_peft: .* holds adapters, .*{named} to begin new ones\n", error)


@pytest.mark.parametrize("coefficient", [None, 0.0])
def test_a_model_of_experts_trains_with_and_without_its_load_balancing_loss(
    coefficient, write_rows, model_dir, tmp_path
):
    data = list(read_examples(write_rows([1, 2])))
    demo = AutoConfig.from_pretrained(model_dir)
    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "decoder_sparse_step": 1}
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}
    special = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    vision = {
        "depth": 2,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_heads": 2,
        "patch_size": 14,
        "out_hidden_size": 32,
    }
    text = {**sizes, **experts, "num_key_value_heads": 2, "vocab_size": demo.text_config.vocab_size}
    config = Qwen3VLMoeConfig(
        text_config={**text, "rope_parameters": rope, "pad_token_id": 0, "router_aux_loss_coef": 0.001},
        vision_config={**vision, "num_position_embeddings": 16, "deepstack_visual_indexes": [0]},
        **{name: getattr(demo, name) for name in special},
    )

    def trainer(**options):
        preparer = PromptPreparer(load_processor(str(model_dir)), loader=loader)
        args = {"use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no", "disable_tqdm": True}
        args |= {"max_steps": 1, "num_generations": 2, "per_device_train_batch_size": 4, "max_completion_length": 4}
        return MultiImageGRPOTrainer(
            Qwen3VLMoeForConditionalGeneration(config),
            [lambda completion_ids, **_: [float(ids[0]) for ids in completion_ids]],
            args=GRPOConfig(output_dir=str(tmp_path / "out"), **args, **options),
            train_dataset=ExampleTable(data),
            preparer=preparer,
        )

    with ImageLoader(threads=1) as loader:
        run = trainer(router_aux_loss_coef=coefficient)
        before = {name: values.clone() for name, values in run.model.named_parameters()}
        run.train()
        moved = [name for name, values in run.model.named_parameters() if not torch.equal(values, before[name])]
        assert any("experts" in name for name in moved)
        logged = [entry["aux_loss"] for entry in run.state.log_history if "aux_loss" in entry]
        assert logged == ([] if coefficient == 0.0 else [pytest.approx(2.0, abs=0.5)])  # two experts of four: 2 if even


def test_a_load_balancing_loss_that_cannot_be_computed_is_refused():
    check_router_loss(None, completions_per_slice=4)
    model = build_model(0)  # it has no experts
    with pytest.raises(UsageError, match=r"does not tell where its routers are; set --router_aux_loss_coef 0"):
        check_router_loss(model, completions_per_slice=None)


@pytest.mark.parametrize("arguments", [[], ["--model_name_or_path", "m", "--data", "d.jsonl"]], ids=["demo", "data"])
def test_a_tracker_that_is_not_installed_is_said_before_anything_is_loaded(arguments, tmp_path, capsys):
    code = main([*arguments, "--report_to", "comet_ml", "--output_dir", str(tmp_path / "out"), "--bf16", "False"])
    assert code == 2
    assert capsys.readouterr().err == (
        "train: error: --report_to comet_ml: comet-ml is not installed; pip install comet-ml, or leave it out\n"
    )
    assert not (tmp_path / "out").exists()

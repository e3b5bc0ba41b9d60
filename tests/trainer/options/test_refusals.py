"""Options that cannot hold are refused in one sentence that says what to set instead."""

import json
import re

import pytest
from triptych_trainer.commands.train import main
from triptych_trainer.demo import build_model
from triptych_trainer.errors import UsageError
from triptych_trainer.options.refusals import check_router_loss


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

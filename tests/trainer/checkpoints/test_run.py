"""What a resumed run is compared with: named where it may change, refused where the saved state would mean nothing."""

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from triptych_data import read_examples
from triptych_trainer.checkpoints.folder import CheckpointError
from triptych_trainer.checkpoints.run import (
    Run,
    check_same_run,
    check_same_weights,
    data_digest,
    new_run_id,
    options_of,
)
from triptych_trainer.checkpoints.weights import weights_digest
from triptych_trainer.options.arguments import parse_run

CHECKPOINT = Path("out/checkpoint-2")


def run(*options, data="d", held_out="h", weights="w"):
    config = parse_run(["--data", "a.jsonl", "--model_name_or_path", "m", "--num_generations", "2", *options])
    return Run(id=new_run_id(), options=options_of(config), data=data, held_out=held_out, weights=weights)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], []),
        (["--learning_rate", "1e-4"], ["--learning_rate is 0.0001 from here on; checkpoint-2 was trained with 1e-06"]),
        (["--max_steps", "9", "--seed", "3"], ["--max_steps is 9 from here on", "--seed is 3 from here on"]),
        (["--reward", "format"], ["--reward is ['format'] from here on"]),
        (["--lr_scheduler_type", "cosine"], ["--lr_scheduler_type is 'cosine' from here on"]),
        (["--optim", "adamw_torch"], ["--optim is 'adamw_torch' from here on"]),
        (
            ["--torch_compile", "true"],
            ["--torch_compile is True from here on", "--torch_compile_backend is 'inductor'"],
        ),
        (["--ddp_bucket_cap_mb", "5"], ["--ddp_bucket_cap_mb is 5 from here on; checkpoint-2 was trained with None"]),
        (["--ignore_data_skip", "true"], ["--ignore_data_skip is True from here on"]),
        (["--output_dir", "b", "--logging_steps", "9", "--save_steps", "7", "--quiet"], []),
        (["--run_name", "x", "--image_threads", "3", "--report_to", "tensorboard", "--data", "elsewhere/a.jsonl"], []),
    ],
)
def test_every_option_that_can_change_a_number_is_named_and_no_other(options, said):
    found = check_same_run(run().to_json(), run(*options), checkpoint=CHECKPOINT)
    assert len(found) == len(said)
    for sentence, expected in zip(found, said, strict=True):
        assert sentence.startswith(expected)


NOT_COMPARED = """
    activation_checkpointing allow_outside allow_remote data dataloader_drop_last dataloader_in_order
    dataloader_multiprocessing_context dataloader_num_workers dataloader_persistent_workers dataloader_pin_memory
    dataloader_prefetch_factor ddp_backend ddp_find_unused_parameters ddp_timeout debug disable_tqdm eval_data
    gradient_checkpointing hub_always_push hub_model_id hub_private_repo hub_revision hub_strategy hub_token
    image_cache_gb image_root image_threads local_rank log_completions log_completions_hub_repo log_level
    log_level_replica log_multimodal log_on_each_node log_unique_prompts logging_first_step logging_nan_inf_filter
    logging_steps logging_strategy memory_forecast memory_gib num_completions_to_print output_dir push_to_hub quiet
    report_to restore_callback_states_from_checkpoint resume_from_checkpoint rollouts run_name save_on_each_node
    save_only_model save_steps save_strategy save_total_limit trackio_bucket_id trackio_space_id
    trackio_static_space_id vllm_group_port vllm_server_base_url vllm_server_host vllm_server_port vllm_server_timeout
"""
"""Options that change neither what a step computes nor the order of the rows. A new option of TRL is compared."""


def test_every_option_that_is_not_listed_here_is_compared():
    config = parse_run(["--data", "a.jsonl", "--model_name_or_path", "m", "--num_generations", "2"])
    every = {option.name for part in (config.trl, config.run, config.model) for option in fields(part)}
    not_compared = set(NOT_COMPARED.split()) - ({"activation_checkpointing"} - every)  # of transformers from 5.21 on
    assert every - options_of(config).keys() == not_compared


def test_versions_and_code_that_differ_are_named():
    before = replace(run(), sources={"the version of torch": "2.9.0", "the code of own.py": "0" * 32, "gone": "x"})
    now = replace(run(), sources={"the version of torch": "2.9.1", "the code of own.py": "1" * 32})
    assert check_same_run(before.to_json(), now, checkpoint=CHECKPOINT) == [
        "the code of own.py is not what checkpoint-2 was trained with, and is used as it is now",
        "the version of torch is not what checkpoint-2 was trained with (2.9.1 for 2.9.0), and is used as it is now",
    ]


def test_other_data_and_another_group_size_are_refused_and_other_evaluation_data_named():
    with pytest.raises(CheckpointError, match=r"--data: the training data are not those of out/checkpoint-2, .*; give"):
        check_same_run(run().to_json(), run(data="other"), checkpoint=CHECKPOINT)
    with pytest.raises(
        CheckpointError, match=r"--num_generations 4: out/checkpoint-2 was trained with groups of 2 .*; give"
    ):
        check_same_run(run().to_json(), run("--num_generations", "4"), checkpoint=CHECKPOINT)
    (found,) = check_same_run(run().to_json(), run(held_out="other"), checkpoint=CHECKPOINT)
    assert found.startswith("--eval_data: the evaluation data are not those of checkpoint-2")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--use_peft"], "--use_peft: out/checkpoint-2 was trained with False, and what its optimizer keeps does not"),
        (["--use_peft", "--lora_r", "4"], "--use_peft: "),
        (["--freeze_vision_modules"], "--freeze_vision_modules: .* does not belong to True; give the option as it was"),
        (["--optim", "sgd"], "--optim: .* was trained with 'adamw_torch_fused', .* does not belong to 'sgd'"),
        (["--vision_learning_rate", "1e-5"], "--vision_learning_rate: .* was trained with None, .* as a new run: "),
    ],
)
def test_other_trained_parameters_are_refused(options, said):
    with pytest.raises(CheckpointError, match=said):
        check_same_run(run().to_json(), run(*options), checkpoint=CHECKPOINT)


def test_a_checkpoint_that_does_not_say_how_it_was_trained_is_named():
    (found,) = check_same_run(None, run(), checkpoint=CHECKPOINT)
    assert found == "checkpoint-2 does not say what it was trained with: options and data are not compared"


@pytest.mark.parametrize(
    ("options", "has_adapters", "needed"),
    [([], True, "its adapters belong to the weights"), (["--beta", "0.1"], False, "are its reference")],
)
def test_other_start_weights_are_refused_where_they_count(options, has_adapters, needed):
    def compare(weights):
        now = run(*options, weights=weights)
        return check_same_weights(run().to_json(), now, checkpoint=CHECKPOINT, has_adapters=has_adapters)

    assert compare("w") == []
    with pytest.raises(CheckpointError, match=f"--model_name_or_path m contains other weights than out/.*{needed}"):
        compare("other")


def test_other_start_weights_of_a_whole_model_are_without_consequence():
    (found,) = check_same_weights(run().to_json(), run(weights="o"), checkpoint=CHECKPOINT, has_adapters=False)
    assert found.endswith("without consequence, because all weights are read from the checkpoint")


def test_models_are_told_apart_by_names_shapes_dtypes_and_values():
    def layer(**options):
        torch.manual_seed(0)
        return torch.nn.Linear(8, 3, **options)

    changed = layer()
    with torch.no_grad():
        changed.weight[2, 7] += 1
    models = [layer(), layer(bias=False), layer(dtype=torch.bfloat16), changed, torch.nn.Sequential(layer())]
    assert len({weights_digest(model) for model in models}) == len(models)
    assert weights_digest(layer()) == weights_digest(layer())


def test_data_are_the_same_wherever_they_lie_and_others_where_a_byte_or_a_row_is(write_rows, tmp_path):
    file = write_rows([0, 0, 0])
    examples = read_examples(file)
    (tmp_path / "b").mkdir()
    copy = tmp_path / "b" / "copy.jsonl"
    copy.write_bytes(file.read_bytes())
    same = data_digest(read_examples(copy))
    assert data_digest(examples) == same
    assert data_digest(examples[:2]) != same
    assert data_digest(read_examples([file, file])) not in (same, data_digest(None))
    copy.write_bytes(file.read_bytes().replace(b"red", b"sad", 1))
    assert data_digest(read_examples(copy)) != same

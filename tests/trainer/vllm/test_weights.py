"""What vLLM computed with older weights is dropped when it gets new ones, and only then."""

import os
import tempfile
from pathlib import Path

import pytest
from peft import LoraConfig
from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.vllm.folder_transfer import MEMORY, PREFIX

MODES = ["colocate", "server"]


@pytest.mark.slow_except("server")
@pytest.mark.parametrize("mode", MODES)
def test_image_features_are_dropped_at_every_change_of_a_trained_tower(vllm_trainer, write_rows, mode):
    trainer = vllm_trainer(write_rows([1, 2, 0, 1]), mode=mode, max_steps=3)
    trainer.train()
    assert trainer.vllm_generation.forgotten == [1, 2, 3], "after each sending of weights, and after nothing else"


@pytest.mark.slow_except("under adapters of the language model-server", "by option-colocate")
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("frozen", ["by option", "under adapters of the language model"])
def test_features_of_a_frozen_tower_are_kept(vllm_trainer, write_rows, mode, frozen):
    adapters = LoraConfig(target_modules=r".*language_model.*q_proj", r=2)
    options = {"freeze_vision": True} if frozen == "by option" else {"peft_config": adapters}
    trainer = vllm_trainer(write_rows([1, 2, 0, 1]), mode=mode, max_steps=3, **options)
    trainer.train()
    assert trainer.vllm_generation.syncs == 3
    assert trainer.vllm_generation.forgotten == [1], "a server may have served another run before"


def test_adapters_on_the_tower_move_it(vllm_trainer, write_rows):
    adapters = LoraConfig(target_modules=r".*visual.*qkv", r=2)
    trainer = vllm_trainer(write_rows([1, 2, 0, 1]), mode="colocate", peft_config=adapters)
    trainer.train()
    assert trainer.vllm_generation.forgotten == [1, 2]


def test_an_engine_that_slept_gets_weights_and_forgets(vllm_trainer, write_rows):
    trainer = vllm_trainer(write_rows([1]), mode="colocate", vllm_enable_sleep_mode=True)
    rows = [{"row": 0}] * trainer.num_generations
    for _ in range(2):  # of one step: the second time only because the engine has slept
        trainer._generate_and_score_completions(rows)
    assert trainer.vllm_generation.forgotten == [1, 2]


def test_a_server_that_cannot_forget_ends_the_run(vllm_trainer, write_rows):
    trainer = vllm_trainer(write_rows([1, 2, 0, 1]), mode="server", vllm_weight_transfer="nccl")
    trainer.vllm_generation.status = 404
    with pytest.raises(UsageError, match=r"answered 404 to /reset_encoder_cache.*`triptych serve`"):
        trainer.train()
    assert trainer.vllm_generation.syncs == 1, "TRL's own transfer was asked"


def test_a_folder_of_weights_has_every_parameter_and_is_removed(vllm_trainer, write_rows):
    trainer = vllm_trainer(write_rows([1, 2, 0, 1]), mode="server")
    trainer.train()
    assert trainer.vllm_generation.loaded == sorted(dict(trainer.model.named_parameters()))
    homes = [MEMORY, Path(tempfile.gettempdir())]
    assert not [file for home in homes for file in home.glob(f"{PREFIX}-{os.getpid()}-*/*")]

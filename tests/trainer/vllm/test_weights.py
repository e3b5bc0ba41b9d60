"""What vLLM computed with older weights is dropped when it gets new ones, and only then."""

import os
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from peft import LoraConfig
from transformers import CLIPVisionConfig, CLIPVisionModel, SiglipVisionConfig, SiglipVisionModel
from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.vllm.folder_transfer import MEMORY, PREFIX, write_weights
from triptych_trainer.grpo.vllm.weight_names import under_names_of_vllm

MODES = ["colocate", "server"]


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_image_features_are_dropped_at_every_change_of_a_trained_tower(vllm_trainer, write_rows, mode):
    trainer = vllm_trainer(write_rows([1, 2, 0, 1]), mode=mode, max_steps=3)
    trainer.train()
    assert trainer.vllm_generation.forgotten == [1, 2, 3], "after each sending of weights, and after nothing else"


@pytest.mark.slow
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


@pytest.mark.slow
def test_weights_that_change_between_trainings_are_sent(vllm_trainer, write_rows):
    trainer = vllm_trainer(write_rows([1, 2, 0, 1]), mode="server", max_steps=1)
    trainer.train()
    trainer.train()  # begins at step 0 again, with other weights
    assert trainer.vllm_generation.syncs == 2
    trainer.model.eval()
    trainer._generate_and_score_completions([{"row": 0}])
    assert trainer.vllm_generation.syncs == 3, "the best weights may have been loaded at the end"


def test_weights_go_to_another_folder_where_memory_has_too_little_room(monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=64 << 20))
    weights = {"one": torch.ones(3)}
    for needed, place in ((10 << 20, MEMORY), (100 << 20, Path(tempfile.gettempdir()))):
        folder = write_weights(weights.items(), needed=needed)
        assert folder.parent.parent == place
        shutil.rmtree(folder)


def test_weights_of_another_run_are_not_sampled_from(vllm_trainer, write_rows):
    trainer = vllm_trainer(write_rows([1]), mode="server", freeze_vision=True)
    server, rows = trainer.vllm_generation, [{"row": 0}] * trainer.num_generations
    trainer._generate_and_score_completions(rows)
    server.weights_of = ["/dev/shm/of-another-run"]
    with pytest.raises(UsageError, match=r"not have the weights any more that this run sent: another run has loaded"):
        trainer._generate_and_score_completions(rows)
    trainer.state.global_step += 1  # new weights are sent, and features of the other run's tower must go
    trainer._generate_and_score_completions(rows)
    assert server.forgotten == [1, 2]


def test_a_server_that_does_not_see_the_folder_is_named(vllm_trainer, write_rows):
    trainer = vllm_trainer(write_rows([1]), mode="server")
    trainer.vllm_generation.unseen = ["/dev/shm/of-the-trainer"]
    with pytest.raises(UsageError, match=r"does not see .*triptych-weights.*with the same /dev/shm"):
        trainer._generate_and_score_completions([{"row": 0}] * trainer.num_generations)


def test_towers_of_clip_and_siglip_are_sent_under_their_published_names():
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    image = {"image_size": 4, "patch_size": 2}
    towers = {
        "clip": CLIPVisionModel(CLIPVisionConfig(**sizes, **image)),
        "siglip": SiglipVisionModel(SiglipVisionConfig(**sizes, **image, vision_use_head=False)),
    }
    model = torch.nn.ModuleDict({**towers, "projector": torch.nn.Linear(8, 8)})
    sent = [name for name, _ in under_names_of_vllm(model.named_parameters(), model)]
    assert "clip.vision_model.embeddings.patch_embedding.weight" in sent
    assert "siglip.vision_model.embeddings.patch_embedding.weight" in sent
    assert "projector.weight" in sent
    assert [name.replace(".vision_model.", ".") for name in sent] == [name for name, _ in model.named_parameters()]

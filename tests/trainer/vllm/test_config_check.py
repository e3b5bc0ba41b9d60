"""Settings of a config that vLLM reads and transformers does not."""

import pytest
from transformers import Qwen2_5_VLConfig, Qwen3_5Config, Qwen3VLConfig, Qwen3VLMoeConfig
from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.vllm import check_config

ROPE = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [24, 20, 20]}


@pytest.mark.parametrize("config", [Qwen3VLConfig, Qwen3VLMoeConfig, Qwen3_5Config])
def test_position_axes_that_only_transformers_would_interleave_are_refused(config):
    with pytest.raises(UsageError, match="no mrope_interleaved"):
        check_config(config(text_config={"rope_parameters": ROPE}))
    check_config(config(text_config={"rope_parameters": {**ROPE, "mrope_interleaved": True}}))


def test_axes_that_neither_interleaves_pass():
    check_config(Qwen2_5_VLConfig(text_config={"rope_parameters": ROPE}))


def test_the_command_that_samples_before_a_run_checks_it_too(tmp_path, vllm_engines, write_rows, capsys):
    from triptych_trainer.commands import rollout
    from triptych_trainer.demo import build_processor, build_tokenizer

    Qwen3VLConfig(text_config={"rope_parameters": ROPE}).save_pretrained(tmp_path / "model")
    build_processor(build_tokenizer()).save_pretrained(tmp_path / "model")
    given = ["--model", str(tmp_path / "model"), "--data", str(write_rows([1])), "-o", str(tmp_path / "out")]
    assert rollout.main([*given, "--use_vllm"]) == 2
    assert "no mrope_interleaved" in capsys.readouterr().err
    assert vllm_engines == []

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

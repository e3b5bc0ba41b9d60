"""A two-layer Qwen2.5-VL built from a config: the real architecture at 0.7 million parameters."""

from typing import Any

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from .tokenizer import END_OF_TEXT, IMAGE_PAD, TURN_END, VIDEO_PAD, VISION_END, VISION_START, build_tokenizer


def build_config(tokenizer: Any) -> Qwen2_5_VLConfig:
    """Return the demo's model config; vocabulary size and special ids come from the tokenizer."""
    token_id = tokenizer.convert_tokens_to_ids
    text = {
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "intermediate_size": 384,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": 1024,
        "initializer_range": 0.05,  # 0.02, the default, learns far slower at this width
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "mrope_section": [4, 6, 6]},
        "bos_token_id": None,
        "eos_token_id": token_id(TURN_END),
        "pad_token_id": token_id(END_OF_TEXT),
    }
    vision = {
        "depth": 2,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_heads": 4,
        "out_hidden_size": 128,
        "fullatt_block_indexes": [1],
        "initializer_range": 0.05,
    }
    return Qwen2_5_VLConfig(
        text_config=text,
        vision_config=vision,
        image_token_id=token_id(IMAGE_PAD),
        video_token_id=token_id(VIDEO_PAD),
        vision_start_token_id=token_id(VISION_START),
        vision_end_token_id=token_id(VISION_END),
        eos_token_id=token_id(TURN_END),
        pad_token_id=token_id(END_OF_TEXT),
        tie_word_embeddings=True,
    )


def build_model(seed: int, tokenizer: Any = None) -> Qwen2_5_VLForConditionalGeneration:
    """Return a freshly initialised float32 model; the global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(build_config(tokenizer or build_tokenizer()))
    return model.eval()

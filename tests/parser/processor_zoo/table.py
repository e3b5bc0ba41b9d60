"""Every processor by a name; several where settings change what a family writes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from processor_zoo import runs, tiles
from processor_zoo.vocabularies import llama, sentence_piece

FAMILIES: dict[str, Callable[[], Any]] = {
    "qwen2_vl": lambda: runs.qwen("qwen2_vl", "Qwen2VLProcessor"),
    "qwen2_5_vl": lambda: runs.qwen("qwen2_5_vl", "Qwen2_5_VLProcessor"),
    "qwen3_vl": lambda: runs.qwen("qwen3_vl", "Qwen3VLProcessor", patch=16),
    "glm4v": lambda: runs.glm("glm4v", "Glm4vProcessor", "Glm4vImageProcessorPil"),
    "glm46v": lambda: runs.glm("glm46v", "Glm46VProcessor", "Glm46VImageProcessorPil"),
    "ernie4_5_vl_moe": runs.ernie,
    "paddleocr_vl": runs.paddleocr,
    "kimi_k25": runs.kimi,
    "gemma4": lambda: runs.gemma4("gemma4", "Gemma4Processor", "Gemma4ImageProcessorPil"),
    "gemma4_unified": lambda: runs.gemma4("gemma4_unified", "Gemma4UnifiedProcessor", "Gemma4UnifiedImageProcessor"),
    "internvl": runs.internvl,
    "qianfan_ocr": runs.qianfan,
    "deepseek_vl": lambda: runs.deepseek("deepseek_vl", "DeepseekVL"),
    "deepseek_vl_hybrid": lambda: runs.deepseek("deepseek_vl_hybrid", "DeepseekVLHybrid"),
    "janus": lambda: runs.deepseek("janus", "Janus"),
    "llava": lambda: runs.llava(sentence_piece(["<image>"], prefix="always")),
    "llava_metaspace": lambda: runs.llava(sentence_piece(["<image>"], prefix="first")),
    "llava_llama_tokenizer": lambda: runs.llava(llama(["<image>"])),
    "llava_any_size": lambda: runs.llava(sentence_piece(["<image>"], prefix="always"), do_center_crop=False),
    "llava_siglip": runs.llava_siglip,
    "llava_next": runs.llava_next,
    "llava_onevision": runs.llava_onevision,
    "paligemma": runs.paligemma,
    "aya_vision": tiles.aya_vision,
    "cohere2_vision": tiles.cohere2_vision,
    "gemma3": lambda: tiles.gemma3(False),
    "gemma3_pan_and_scan": lambda: tiles.gemma3(True),
    "gemma3n": tiles.gemma3n,
    "idefics2": lambda: tiles.idefics2(False),
    "idefics2_split": lambda: tiles.idefics2(True),
    "lfm2_vl": tiles.lfm2_vl,
    "lfm2_vl_whole": lambda: tiles.lfm2_vl(do_image_splitting=False),
    "lfm2_vl_no_thumbnail": lambda: tiles.lfm2_vl(use_thumbnail=False),
    "minicpmv4_6": tiles.minicpm,
    "minicpm_ocr": lambda: tiles.minicpm("minicpm_ocr", "MiniCPMOcr", ""),
    "minicpmv4_6_4x": lambda: tiles.minicpm(downsample_mode="4x", use_image_id=False),
    "minicpmv4_6_whole": lambda: tiles.minicpm(slice_mode=False),
    "ovis2": tiles.ovis2,
    "ovis2_canvas": lambda: tiles.ovis2(use_covering_area_grid=False),
    "pixtral": lambda: tiles.pixtral(16, 1),
    "mistral3": lambda: tiles.pixtral(14, 2),
    "smolvlm": lambda: tiles.smolvlm("smolvlm", "SmolVLMProcessor", "SmolVLMImageProcessorPil", True),
    "smolvlm_rows_as_text": lambda: tiles.smolvlm("smolvlm", "SmolVLMProcessor", "SmolVLMImageProcessorPil", False),
    "idefics3": lambda: tiles.smolvlm("idefics3", "Idefics3Processor", "Idefics3ImageProcessorPil", True),
}
MOVING = ("llava", "llava_metaspace", "llava_llama_tokenizer", "llava_any_size", "llava_next")
"""Families whose chat template writes all images of a turn before its text."""
_built: dict[str, Any] = {}


def built(name: str) -> Any:
    """A family's processor, built once per session; the test is skipped where something it needs is not installed."""
    if name not in _built:
        try:
            _built[name] = FAMILIES[name]()
        except ImportError as error:
            pytest.skip(" ".join(str(error).split())[:200])
    return _built[name]

"""What transformers and vLLM read differently in the same ``config.json``."""

from typing import Any

from triptych_trainer.errors import UsageError

__all__ = ["check_config"]

INTERLEAVED = ("qwen3_vl", "qwen3_5", "qwen3_omni")
"""Beginnings of model types whose three position axes transformers always interleaves over the frequencies."""


def check_config(config: Any) -> None:
    """Check that vLLM gives image tokens the rotary positions that transformers gives them.

    transformers interleaves the position axes of these models and reads no setting; vLLM reads
    ``mrope_interleaved``, and takes false where it is missing. Without images the three axes are equal, so that
    only prompts with images would differ.

    Raises:
        UsageError: the setting is missing, with the place where it belongs.
    """
    rope = getattr(config.get_text_config(), "rope_parameters", None) or {}
    if not str(config.model_type).startswith(INTERLEAVED) or "mrope_section" not in rope:
        return
    if not rope.get("mrope_interleaved"):
        raise UsageError(
            f"the config of this model ({config.model_type}) has no mrope_interleaved: transformers interleaves the "
            "position axes of images all the same, and vLLM would not, so that it would sample from another model; "
            'write "mrope_interleaved": true into text_config.rope_parameters of its config.json, and give this folder '
            "to the trainer and to vLLM"
        )

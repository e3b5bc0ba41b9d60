"""A model of Qwen2.5-VL-3B's shape with random weights, and one prompt with images of noise, for a device."""

from dataclasses import dataclass

import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from triptych_parser import ImageSpan
from triptych_trainer.forward import GroupBatch, install_hooks

IMAGE, START, END = 10, 11, 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """Dimensions of a model and its batch; those of Qwen2.5-VL-3B by default."""

    hidden: int = 2048
    inner: int = 11008
    layers: int = 36
    heads: int = 16
    kv_heads: int = 2
    vocabulary: int = 151936
    vision_hidden: int = 1280
    vision_inner: int = 3420
    vision_layers: int = 32
    vision_heads: int = 16
    side_pixels: int = 448
    num_images: int = 4
    group: int = 8
    completion_tokens: int = 128
    dtype: torch.dtype = torch.bfloat16

    @property
    def patches(self) -> int:
        """Patches of 14 pixels along a side of an image; two by two they are a token."""
        return self.side_pixels // 14


TINY = Size(
    hidden=64,
    inner=96,
    layers=2,
    heads=4,
    kv_heads=2,
    vocabulary=512,
    vision_hidden=32,
    vision_inner=48,
    vision_layers=2,
    vision_heads=2,
    side_pixels=56,
    num_images=2,
    group=2,
    completion_tokens=4,
    dtype=torch.float32,
)


def build_model(size: Size, *, device: torch.device) -> Qwen2_5_VLForConditionalGeneration:
    """Random weights, made on the device, with gradient checkpointing."""
    width = size.hidden // size.heads // 2
    sections = [width - 2 * (3 * width // 8), 3 * width // 8, 3 * width // 8]
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": size.vocabulary,
            "hidden_size": size.hidden,
            "intermediate_size": size.inner,
            "num_hidden_layers": size.layers,
            "num_attention_heads": size.heads,
            "num_key_value_heads": size.kv_heads,
            "max_position_embeddings": 32768,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": sections},
            "bos_token_id": None,
            "eos_token_id": 1,
            "pad_token_id": 0,
        },
        vision_config={
            "depth": size.vision_layers,
            "hidden_size": size.vision_hidden,
            "intermediate_size": size.vision_inner,
            "num_heads": size.vision_heads,
            "out_hidden_size": size.hidden,
            "fullatt_block_indexes": sorted({*range(7, size.vision_layers, 8), size.vision_layers - 1}),
        },
        image_token_id=IMAGE,
        vision_start_token_id=START,
        vision_end_token_id=END,
        video_token_id=13,
        eos_token_id=1,
        pad_token_id=0,
        tie_word_embeddings=True,
    )
    before = torch.get_default_dtype()
    torch.set_default_dtype(size.dtype)
    try:
        with torch.device(device):
            model = Qwen2_5_VLForConditionalGeneration(config).train()
    finally:
        torch.set_default_dtype(before)
    model = model.to(device)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    install_hooks(model)
    return model


def build_batch(size: Size) -> GroupBatch:
    """One prompt: text, and images of noise between their marks."""
    generator = torch.Generator().manual_seed(0)
    ids, spans = [*range(20, 40)], []
    length = (size.patches // 2) ** 2
    for number in range(size.num_images):
        spans.append(ImageSpan(start=len(ids) + 1, length=length, image=number, runs=((len(ids) + 1, length),)))
        ids += [START, *[IMAGE] * length, END, *range(20, 30)]
    pixels = [torch.randn(size.patches**2, 3 * 2 * 14 * 14, generator=generator) for _ in spans]
    grid = torch.tensor([[1, size.patches, size.patches]])
    images = [{"pixel_values": values, "image_grid_thw": grid} for values in pixels]
    return GroupBatch.build([ids], spans=[spans], images=images)

"""Processors that write several runs of placeholders for an image."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tokenizers import AddedToken

from processor_zoo.stock import images_only, stock
from processor_zoo.templates import (
    COHERE_TEMPLATE,
    GEMMA_TEMPLATE,
    IDEFICS2_TEMPLATE,
    MISTRAL_TEMPLATE,
    SMOLVLM_TEMPLATE,
    chatml,
)
from processor_zoo.vocabularies import CHATML, byte_level, sentence_piece

COHERE = ["<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>", "<|USER_TOKEN|>", "<|SYSTEM_TOKEN|>", "<|CHATBOT_TOKEN|>"]
COHERE_NAMES = {"bos_token": "<BOS_TOKEN>", "eos_token": "<|END_OF_TURN_TOKEN|>", "pad_token": "<PAD>"}


def aya_vision() -> Any:
    image = ["<image>", "<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>", "TILE_GLOBAL"]
    tiles = [f"TILE_{number}" for number in range(1, 13)]
    tokenizer = byte_level([*COHERE, *image, "TILE", *tiles], **COHERE_NAMES)
    images = stock("got_ocr2", "GotOcr2ImageProcessorPil")(
        size={"height": 28, "width": 28}, min_patches=1, max_patches=6
    )
    template = COHERE_TEMPLATE.replace("IMAGE", "<image>")
    cls = stock("aya_vision", "AyaVisionProcessor")
    return cls(images, tokenizer, patch_size=7, img_size=28, downsample_factor=2, chat_template=template)


def cohere2_vision() -> Any:
    names = {
        "image_token": "<|IMG_PATCH|>",
        "boi_token": "<|START_OF_IMG|>",
        "eoi_token": "<|END_OF_IMG|>",
        "img_line_break_token": "<|IMG_LINE_BREAK|>",
    }
    tokenizer = byte_level(COHERE, extra_special_tokens=names, **COHERE_NAMES)
    images = stock("cohere2_vision", "Cohere2VisionImageProcessor")(
        size={"height": 28, "width": 28}, patch_size=2, min_patches=1, max_patches=6
    )
    template = COHERE_TEMPLATE.replace("IMAGE", "<|IMG_PATCH|>")
    return stock("cohere2_vision", "Cohere2VisionProcessor")(images, tokenizer, chat_template=template)


def gemma3(pan_and_scan: bool, tokenizer: Any = None) -> Any:
    names = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    if tokenizer is None:
        tokenizer = sentence_piece(["<start_of_turn>", "<end_of_turn>"], prefix="never", extra_special_tokens=names)
        breaks = [AddedToken("\n" * count, normalized=False, special=False) for count in (1, 2, 3, 4, 5)]
        tokenizer.add_tokens(breaks)
    images = stock("gemma3", "Gemma3ImageProcessorPil")(size={"height": 28, "width": 28})
    template = tokenizer.chat_template or GEMMA_TEMPLATE
    processor = stock("gemma3", "Gemma3Processor")(images, tokenizer, image_seq_length=4, chat_template=template)
    if pan_and_scan:
        if not hasattr(processor, "images_kwargs"):
            raise ImportError("before transformers 5.23 a processor has no image options of its own")
        crops = {"do_pan_and_scan": True, "pan_and_scan_min_crop_size": 24}
        processor.images_kwargs = {**processor.images_kwargs, **crops}
    return processor


def gemma3n() -> Any:
    names = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    names |= {"boa_token": "<start_of_audio>", "eoa_token": "<end_of_audio>", "audio_token": "<audio_soft_token>"}
    tokenizer = sentence_piece(["<start_of_turn>", "<end_of_turn>"], prefix="never", extra_special_tokens=names)
    tokenizer.add_tokens([AddedToken("\n" * count, normalized=False, special=False) for count in (1, 2, 3, 4, 5)])
    images = stock("siglip", "SiglipImageProcessorPil")(size={"height": 28, "width": 28})
    template = GEMMA_TEMPLATE.replace("<start_of_image>", "<image_soft_token>")
    cls = images_only(stock("gemma3n", "Gemma3nProcessor"), "feature_extractor", "image_processor", "tokenizer")
    return cls(None, images, tokenizer, chat_template=template, image_seq_length=4)


def idefics2(splits: bool) -> Any:
    tokenizer = sentence_piece([], prefix="always")
    images = stock("idefics2", "Idefics2ImageProcessorPil")(
        size={"shortest_edge": 20, "longest_edge": 40}, do_image_splitting=splits
    )
    cls = stock("idefics2", "Idefics2Processor")
    return cls(images, tokenizer, image_seq_len=3, chat_template=IDEFICS2_TEMPLATE)


def lfm2_vl(**options: Any) -> Any:
    image = ["<image>", "<|image_start|>", "<|image_end|>", "<|img_thumbnail|>"]
    tiles = [f"<|img_row_{row}_col_{col}|>" for row in range(1, 11) for col in range(1, 11)]
    tokenizer = byte_level([*CHATML, *image, *tiles], bos_token="<|startoftext|>", eos_token="<|im_end|>")
    small = {"encoder_patch_size": 4, "tile_size": 32, "min_image_tokens": 2, "max_image_tokens": 16, "max_tiles": 6}
    images = stock("lfm2_vl", "Lfm2VlImageProcessor")(**small, **options)
    template = "{{ bos_token }}" + chatml("<image>")
    return stock("lfm2_vl", "Lfm2VlProcessor")(images, tokenizer, chat_template=template)


def minicpm(model: str = "minicpmv4_6", prefix: str = "MiniCPMV4_6", pil: str = "Pil", **options: Any) -> Any:
    names = {
        "image_token": "<|image_pad|>",
        "video_token": "<|video_pad|>",
        "image_start_token": "<image>",
        "image_end_token": "</image>",
        "slice_start_token": "<slice>",
        "slice_end_token": "</slice>",
        "image_id_start_token": "<image_id>",
        "image_id_end_token": "</image_id>",
    }
    tokenizer = byte_level(CHATML, eos_token="<|im_end|>", pad_token="<|endoftext|>", extra_special_tokens=names)
    images = stock(model, f"{prefix}ImageProcessor{pil}")(scale_resolution=56, patch_size=7, **options)
    videos = SimpleNamespace(slice_mode=True, downsample_mode="16x", model_input_names=[])
    cls = images_only(stock(model, f"{prefix}Processor"), "image_processor", "video_processor", "tokenizer")
    return cls(images, videos, tokenizer, chat_template=chatml("<|image_pad|>"))


def ovis2(**options: Any) -> Any:
    image = ["<image>", "<IMG_START>", "<IMG_ATOM>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>"]
    tokenizer = byte_level([*CHATML, *image], eos_token="<|im_end|>")
    images = stock("ovis2", "Ovis2ImageProcessorPil")(
        size={"height": 28, "width": 28}, crop_to_patches=True, max_patches=6, **options
    )
    cls = stock("ovis2", "Ovis2Processor")
    return cls(images, tokenizer, image_seq_length=3, chat_template=chatml("<image>\n"))


def pixtral(patch: int, merge: int) -> Any:
    specials = ["[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[IMG]", "[IMG_BREAK]", "[IMG_END]"]
    tokenizer = byte_level(specials, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    images = stock("pixtral", "PixtralImageProcessorPil")(
        patch_size={"height": patch, "width": patch}, size={"longest_edge": 112}
    )
    cls = stock("pixtral", "PixtralProcessor")
    return cls(images, tokenizer, patch_size=patch, spatial_merge_size=merge, chat_template=MISTRAL_TEMPLATE)


def smolvlm(folder: str, name: str, image_processor: str, row_tokens: bool) -> Any:
    specials = [*CHATML, "<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", "<video>"]
    rows = [f"<row_{row}_col_{col}>" for row in range(1, 7) for col in range(1, 7)] if row_tokens else []
    tokenizer = byte_level([*specials, *rows], bos_token="<|im_start|>", eos_token="<end_of_utterance>")
    images = stock(folder, image_processor)(size={"longest_edge": 112}, max_image_size={"longest_edge": 28})
    video = {"video_processor": None} if folder == "smolvlm" else {}
    cls = images_only(stock(folder, name))
    return cls(images, tokenizer, **video, image_seq_len=3, chat_template=SMOLVLM_TEMPLATE)

"""Processors that write one run of placeholders for an image."""

from __future__ import annotations

from typing import Any

from processor_zoo.stock import images_only, stock
from processor_zoo.templates import GEMMA4_TEMPLATE, LLAVA_TEMPLATE, PLAIN_TEMPLATE, chatml
from processor_zoo.vocabularies import CHATML, byte_level, sentence_piece

QWEN = [*CHATML, "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]


def cells(patch: int = 14, least: int = 4, most: int = 64) -> dict[str, int]:
    """Limits of an image in pixels, given as merged patches."""
    return {"shortest_edge": (2 * patch) ** 2 * least, "longest_edge": (2 * patch) ** 2 * most}


def qwen(folder: str, name: str, patch: int = 14, tokenizer: Any = None) -> Any:
    template = chatml("<|vision_start|><|image_pad|><|vision_end|>", "You are a helpful assistant.")
    if tokenizer is None:
        tokenizer = byte_level(QWEN, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=template)
    images = stock("qwen2_vl", "Qwen2VLImageProcessorPil")(patch_size=patch, size=cells(patch))
    return images_only(stock(folder, name))(images, tokenizer, chat_template=template)


def glm(folder: str, name: str, image_processor: str) -> Any:
    template = chatml("<|begin_of_image|><|image|><|end_of_image|>")
    specials = [*CHATML, "<|begin_of_image|>", "<|end_of_image|>", "<|image|>", "<|video|>"]
    tokenizer = byte_level([*specials, "<|begin_of_video|>", "<|end_of_video|>"], eos_token="<|im_end|>")
    images = stock(folder, image_processor)(size=cells())
    return images_only(stock(folder, name))(images, tokenizer, chat_template=template)


def ernie() -> Any:
    names = {
        "image_token": "<|IMAGE_PLACEHOLDER|>",
        "image_start_token": "<|IMAGE_START|>",
        "image_end_token": "<|IMAGE_END|>",
        "video_token": "<|VIDEO_PLACEHOLDER|>",
        "video_start_token": "<|VIDEO_START|>",
        "video_end_token": "<|VIDEO_END|>",
    }
    tokenizer = sentence_piece(CHATML, prefix="never", extra_special_tokens=names)
    template = chatml("<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>")
    images = stock("ernie4_5_vl_moe", "Ernie4_5_VLMoeImageProcessorPil")(size=cells())
    cls = stock("ernie4_5_vl_moe", "Ernie4_5_VLMoeProcessor")
    return images_only(cls)(images, tokenizer, chat_template="{{ bos_token }}" + template)


def paddleocr() -> Any:
    names = {"image_token": "<|IMAGE_PLACEHOLDER|>"}
    tokenizer = sentence_piece(["<|IMAGE_START|>", "<|IMAGE_END|>"], prefix="never", extra_special_tokens=names)
    template = (
        "{{ bos_token }}{% for message in messages %}{{ message['role'] | capitalize + ': ' }}"
        "{% for part in message['content'] %}{% if part['type'] == 'image' %}"
        "<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>{% else %}{{ part['text'] }}{% endif %}{% endfor %}\n"
        "{% endfor %}{% if add_generation_prompt %}Assistant:\n{% endif %}"
    )
    images = stock("paddleocr_vl", "PaddleOCRVLImageProcessorPil")(size=cells())
    return stock("paddleocr_vl", "PaddleOCRVLProcessor")(images, tokenizer, chat_template=template)


def kimi() -> Any:
    image = ["<|media_begin|>", "<|media_content|>", "<|media_pad|>", "<|media_end|>"]
    tokenizer = byte_level([*CHATML, *image, "<|kimi_k25_video_placeholder|>"], eos_token="<|im_end|>")
    images = stock("kimi_k25", "Kimi_K25ImageProcessor")(max_patches=256, size={"max_height": 12, "max_width": 12})
    template = chatml("<|media_begin|>image<|media_content|><|media_pad|><|media_end|>")
    return images_only(stock("kimi_k25", "Kimi_K25Processor"))(images, tokenizer, chat_template=template)


def gemma4(folder: str, name: str, image_processor: str) -> Any:
    names = {
        "image_token": "<|image|>",
        "boi_token": "<|image>",
        "eoi_token": "<image|>",
        "audio_token": "<|audio|>",
        "boa_token": "<|audio>",
        "eoa_token": "<audio|>",
    }
    tokenizer = sentence_piece(["<|turn>", "<turn|>"], prefix="never", pad_token="<pad>", extra_special_tokens=names)
    images = stock(folder, image_processor)(patch_size=4, max_soft_tokens=70, pooling_kernel_size=3)
    cls = images_only(stock(folder, name), "feature_extractor", "image_processor", "tokenizer", "video_processor")
    return cls(None, images, tokenizer, None, chat_template=GEMMA4_TEMPLATE)


INTERNVL = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}


def internvl(tokenizer: Any = None) -> Any:
    tokenizer = tokenizer or byte_level(CHATML, eos_token="<|im_end|>", extra_special_tokens=INTERNVL)
    images = stock("got_ocr2", "GotOcr2ImageProcessorPil")(
        size={"height": 28, "width": 28}, min_patches=1, max_patches=6
    )
    template = chatml("<IMG_CONTEXT>\n")
    cls = images_only(stock("internvl", "InternVLProcessor"))
    return cls(images, tokenizer, image_seq_length=4, chat_template=template)


def qianfan() -> Any:
    tokenizer = byte_level([*CHATML, "<image>"], eos_token="<|im_end|>", extra_special_tokens=INTERNVL)
    images = stock("got_ocr2", "GotOcr2ImageProcessorPil")(
        size={"height": 28, "width": 28}, min_patches=1, max_patches=6
    )
    cls = stock("qianfan_ocr", "QianfanOCRProcessor")
    return cls(images, tokenizer, image_seq_length=4, chat_template=chatml("<image>\n"))


def deepseek(model: str, prefix: str) -> Any:
    names = {"image_token": "<image_placeholder>", "boi_token": "<begin_of_image>", "eoi_token": "<end_of_image>"}
    tokenizer = byte_level(CHATML, eos_token="<|im_end|>", extra_special_tokens=names)
    images = stock(model, f"{prefix}ImageProcessorPil")(size={"height": 28, "width": 28}, min_size=4)
    template = chatml("<image_placeholder>\n")
    return stock(model, f"{prefix}Processor")(images, tokenizer, num_image_tokens=7, chat_template=template)


def llava(tokenizer: Any, **options: Any) -> Any:
    size = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}, **options}
    return stock("llava", "LlavaProcessor")(
        stock("clip", "CLIPImageProcessorPil")(**size),
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )


def llava_siglip() -> Any:
    images = stock("siglip", "SiglipImageProcessorPil")(size={"height": 42, "width": 28})
    return stock("llava", "LlavaProcessor")(
        images,
        byte_level([*CHATML, "<image>"], eos_token="<|im_end|>"),
        patch_size=14,
        vision_feature_select_strategy="full",
        chat_template=chatml("<image>"),
    )


def llava_next(tokenizer: Any = None) -> Any:
    pinpoints = [[28, 56], [56, 28], [56, 56], [84, 28], [28, 84]]
    size = {"size": {"shortest_edge": 28}, "crop_size": {"height": 28, "width": 28}}
    return stock("llava_next", "LlavaNextProcessor")(
        stock("llava_next", "LlavaNextImageProcessorPil")(image_grid_pinpoints=pinpoints, **size),
        tokenizer or sentence_piece(["<image>"], prefix="always"),
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )


def llava_onevision() -> Any:
    tokenizer = byte_level([*CHATML, "<image>", "<video>"], eos_token="<|im_end|>")
    pinpoints = [[28 * rows, 28 * cols] for rows in (1, 2, 3) for cols in (1, 2, 3)]
    images = stock("llava_onevision", "LlavaOnevisionImageProcessorPil")(
        size={"height": 28, "width": 28}, image_grid_pinpoints=pinpoints
    )
    return images_only(stock("llava_onevision", "LlavaOnevisionProcessor"))(
        images, tokenizer, num_image_tokens=4, vision_feature_select_strategy="full", chat_template=chatml("<image>\n")
    )


def paligemma(tokenizer: Any = None) -> Any:
    tokenizer = tokenizer or sentence_piece([], prefix="never")
    images = stock("siglip", "SiglipImageProcessorPil")(size={"height": 28, "width": 28}, image_seq_length=4)
    return stock("paligemma", "PaliGemmaProcessor")(images, tokenizer, chat_template=PLAIN_TEMPLATE)

"""Tokenizers and processors of the real families, built in code; nothing is downloaded."""

from __future__ import annotations

import json
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import LlamaTokenizer, PreTrainedTokenizerFast
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.gemma3.processing_gemma3 import Gemma3Processor
from transformers.models.glm4v.image_processing_pil_glm4v import Glm4vImageProcessorPil
from transformers.models.glm4v.processing_glm4v import Glm4vProcessor
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.idefics3.processing_idefics3 import Idefics3Processor
from transformers.models.internvl.processing_internvl import InternVLProcessor
from transformers.models.llava.processing_llava import LlavaProcessor
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
from transformers.models.llava_onevision.processing_llava_onevision import LlavaOnevisionProcessor
from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from transformers.models.qwen2_vl.processing_qwen2_vl import Qwen2VLProcessor
from transformers.models.qwen3_vl.processing_qwen3_vl import Qwen3VLProcessor
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil
from transformers.models.smolvlm.processing_smolvlm import SmolVLMProcessor

CORPUS = [
    "You are a helpful assistant. Compare the first screen with the second one and name what changed.",
    "Before: the button is red. After: the button is blue. Which picture shows a cat?",
    "¿Qué hay en la imagen? Что на картинке? この画像には何がありますか 图片里有什么 ماذا يوجد في الصورة 🙂",
    "system user assistant Image 1: Image 2: Here is the original image and here are some crops to help you see better",
    "\n\n\n\n  row col tile 0123456789 aaaa abab <|>:.,!? <image> <|im_end|>",
] * 4

TEXT = "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}"


def chatml(image: str, system: str = "") -> str:
    """A template in the manner of Qwen, InternVL and their relatives; `image` is written for an image part."""
    opening = (
        "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\n" + system + "<|im_end|>\n{% endif %}"
        if system
        else ""
    )
    return (
        "{% for message in messages %}" + opening + "<|im_start|>{{ message['role'] }}\n"
        "{% for part in message['content'] %}{% if part['type'] == 'image' %}" + image + TEXT + "<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


LLAVA_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] | upper + ': ' }}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>\n{% endif %}{% endfor %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] + ' ' }}{% endif %}{% endfor %}"
    "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
GEMMA_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>"
    "{{ 'model' if message['role'] == 'assistant' else message['role'] }}\n{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<start_of_image>"
    "{% elif part['type'] == 'text' %}{{ part['text'] | trim }}{% endif %}{% endfor %}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
SMOLVLM_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'] and message['content'][0]['type'] == 'image' %}:{% else %}: {% endif %}"
    "{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>" + TEXT + "<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)


def byte_level(specials: list[str], **names: Any) -> PreTrainedTokenizerFast:
    """A small byte-level BPE with a family's special tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
    fast.add_special_tokens({"additional_special_tokens": specials})
    return fast


def pieces() -> tuple[dict[str, int], list[tuple[str, ...]]]:
    """Vocabulary and merges of a small BPE in the manner of SentencePiece: "▁" for spaces, bytes as fallback."""
    trained = Tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(vocab_size=400, show_progress=False, max_token_length=12)
    trained.train_from_iterator([line.replace(" ", "▁") for line in CORPUS[:2]], trainer)
    learned = json.loads(trained.to_str())["model"]
    first = ["<unk>", "<s>", "</s>", *(f"<0x{number:02X}>" for number in range(256))]
    vocab = {token: number for number, token in enumerate([*first, *learned["vocab"]])}
    return vocab, [tuple(merge) for merge in learned["merges"]]


def llama(specials: list[str]) -> PreTrainedTokenizerFast:
    """The stock class, in its older form, which puts a space in front of every stretch."""
    vocab, merges = pieces()
    tokenizer = LlamaTokenizer(vocab=vocab, merges=merges, legacy=True)
    tokenizer.add_special_tokens({"additional_special_tokens": specials})
    return tokenizer


def sentence_piece(specials: list[str], *, prefix: str, **names: Any) -> PreTrainedTokenizerFast:
    """A small BPE with "▁" for spaces and bytes as fallback; `prefix` says where a space is put in front.

    "always" as in Llama (every stretch between special tokens), "first" as in its later form, "never" as in Gemma.
    """
    vocab, merges = pieces()
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    if prefix == "always":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    elif prefix == "first":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=False)
    else:
        tokenizer.normalizer = normalizers.Replace(" ", "▁")
        tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    named = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>", **names}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named)
    fast.add_special_tokens({"additional_special_tokens": specials})
    return fast


def images_only(cls: type) -> type:
    """The stock processor class without its video branch, which needs torchvision."""
    body = {
        "get_attributes": classmethod(lambda cls: ["image_processor", "tokenizer"]),
        "video_processor": SimpleNamespace(num_frames=1, fps=1.0),
    }
    return type(f"ImagesOnly{cls.__name__}", (cls,), body)


CHATML = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
QWEN = [*CHATML, "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]


def _qwen(cls: type, patch: int = 14) -> Any:
    template = chatml("<|vision_start|><|image_pad|><|vision_end|>", "You are a helpful assistant.")
    tokenizer = byte_level(QWEN, eos_token="<|im_end|>", pad_token="<|endoftext|>", chat_template=template)
    factor = patch * 2
    image_processor = Qwen2VLImageProcessorPil(
        patch_size=patch, size={"shortest_edge": factor**2 * 4, "longest_edge": factor**2 * 64}
    )
    return images_only(cls)(image_processor, tokenizer, chat_template=template)


def _glm4v() -> Any:
    template = chatml("<|begin_of_image|><|image|><|end_of_image|>")
    specials = [*CHATML, "<|begin_of_image|>", "<|end_of_image|>", "<|image|>", "<|video|>"]
    tokenizer = byte_level([*specials, "<|begin_of_video|>", "<|end_of_video|>"], eos_token="<|im_end|>")
    images = Glm4vImageProcessorPil(size={"shortest_edge": 28**2 * 4, "longest_edge": 28**2 * 64})
    return images_only(Glm4vProcessor)(images, tokenizer, chat_template=template)


def _internvl() -> Any:
    names = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    tokenizer = byte_level(CHATML, eos_token="<|im_end|>", extra_special_tokens=names)
    images = GotOcr2ImageProcessorPil(size={"height": 28, "width": 28}, min_patches=1, max_patches=6)
    template = chatml("<IMG_CONTEXT>\n")
    return images_only(InternVLProcessor)(images, tokenizer, image_seq_length=4, chat_template=template)


def _llava(tokenizer: Any) -> Any:
    images = CLIPImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28})
    return LlavaProcessor(
        images,
        tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=LLAVA_TEMPLATE,
    )


def _llava_onevision() -> Any:
    tokenizer = byte_level([*CHATML, "<image>", "<video>"], eos_token="<|im_end|>")
    pinpoints = [[28 * rows, 28 * cols] for rows in (1, 2, 3) for cols in (1, 2, 3)]
    images = LlavaOnevisionImageProcessorPil(size={"height": 28, "width": 28}, image_grid_pinpoints=pinpoints)
    return images_only(LlavaOnevisionProcessor)(
        images, tokenizer, num_image_tokens=4, vision_feature_select_strategy="full", chat_template=chatml("<image>\n")
    )


def _gemma3(pan_and_scan: bool) -> Any:
    names = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    specials = ["<start_of_turn>", "<end_of_turn>"]
    tokenizer = sentence_piece(specials, prefix="never", extra_special_tokens=names)
    breaks = [AddedToken("\n" * count, normalized=False, special=False) for count in (1, 2, 3, 4, 5)]
    tokenizer.add_tokens(breaks)
    images = Gemma3ImageProcessorPil(size={"height": 28, "width": 28})
    processor = Gemma3Processor(images, tokenizer, image_seq_length=4, chat_template=GEMMA_TEMPLATE)
    if pan_and_scan:
        processor.images_kwargs = {
            **processor.images_kwargs,
            "do_pan_and_scan": True,
            "pan_and_scan_min_crop_size": 24,
        }
    return processor


def _smolvlm(cls: type, image_processor: type, row_tokens: bool) -> Any:
    specials = [*CHATML, "<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", "<video>"]
    rows = [f"<row_{row}_col_{col}>" for row in range(1, 7) for col in range(1, 7)] if row_tokens else []
    tokenizer = byte_level([*specials, *rows], bos_token="<|im_start|>", eos_token="<end_of_utterance>")
    images = image_processor(size={"longest_edge": 112}, max_image_size={"longest_edge": 28})
    video = {"video_processor": None} if cls is SmolVLMProcessor else {}
    return images_only(cls)(images, tokenizer, **video, image_seq_len=3, chat_template=SMOLVLM_TEMPLATE)


FAMILIES: dict[str, Callable[[], Any]] = {
    "qwen2_vl": lambda: _qwen(Qwen2VLProcessor),
    "qwen2_5_vl": lambda: _qwen(Qwen2_5_VLProcessor),
    "qwen3_vl": lambda: _qwen(Qwen3VLProcessor, patch=16),
    "glm4v": _glm4v,
    "internvl": _internvl,
    "llava": lambda: _llava(sentence_piece(["<image>"], prefix="always")),
    "llava_metaspace": lambda: _llava(sentence_piece(["<image>"], prefix="first")),
    "llava_llama_tokenizer": lambda: _llava(llama(["<image>"])),
    "llava_onevision": _llava_onevision,
    "gemma3": lambda: _gemma3(False),
    "gemma3_pan_and_scan": lambda: _gemma3(True),
    "smolvlm": lambda: _smolvlm(SmolVLMProcessor, SmolVLMImageProcessorPil, True),
    "smolvlm_rows_as_text": lambda: _smolvlm(SmolVLMProcessor, SmolVLMImageProcessorPil, False),
    "idefics3": lambda: _smolvlm(Idefics3Processor, Idefics3ImageProcessorPil, True),
}
_built: dict[str, Any] = {}


def built(name: str) -> Any:
    """A family's processor, built once per session."""
    if name not in _built:
        _built[name] = FAMILIES[name]()
    return _built[name]


@pytest.fixture(params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> SimpleNamespace:
    """Every family in turn: its name and its processor."""
    return SimpleNamespace(name=request.param, processor=built(request.param))


@pytest.fixture(scope="session")
def qwen() -> Any:
    return built("qwen2_5_vl")


@pytest.fixture(scope="session")
def build() -> Callable[[str], Any]:
    """A family's processor by name."""
    return built

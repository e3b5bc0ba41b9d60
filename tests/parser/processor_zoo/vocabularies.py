"""Small tokenizers in the manner of the real ones: byte-level BPE, and BPE with "▁" for spaces."""

from __future__ import annotations

import json
from typing import Any

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import LlamaTokenizer, PreTrainedTokenizerFast

CHATML = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
CORPUS = [
    "You are a helpful assistant. Compare the first screen with the second one and name what changed.",
    "Before: the button is red. After: the button is blue. Which picture shows a cat?",
    "¿Qué hay en la imagen? Что на картинке? この画像には何がありますか 图片里有什么 ماذا يوجد في الصورة 🙂",
    "system user assistant Image 1: Image 2: Here is the original image and here are some crops to help you see better",
    "\n\n\n\n  row col tile 0123456789 aaaa abab <|>:.,!? <image> <|im_end|>",
] * 4


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

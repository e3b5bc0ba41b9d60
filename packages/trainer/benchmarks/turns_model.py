"""A small Qwen3-VL that says what a script says, turn by turn, because a model of random weights calls nothing.

Its logits are computed as ever, and all but the script's next token are then ruled out.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trl
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedTokenizerFast,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from triptych_data.image_only import image_only_processor

PATCH, MERGE = 16, 2
END, PAD = "<|im_end|>", "<|endoftext|>"
SPECIAL = (PAD, "<|im_start|>", END, "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
CALLS = ("<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>", "<tools>", "</tools>")


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One measurement."""

    turns: int
    """How often the tool is called."""
    shared: bool
    """Whether all rollouts ask for the same images."""
    group: int = 8
    num_images: int = 2
    side_pixels: int = 512
    """Of every image: 256 tokens at 512 pixels."""
    sampled_tokens: int = 32
    """Of every turn."""
    hidden: int = 256
    layers: int = 8
    vision_hidden: int = 192
    vision_layers: int = 4
    vocabulary: int = 8192
    freeze_tower: bool = False
    saves_activations: bool = False
    """Whether Triptych trains without gradient checkpointing."""

    @property
    def num_unique(self) -> int:
        """Images that differ, those of the prompt among them."""
        return self.num_images + self.turns * (1 if self.shared else self.group)

    @property
    def num_shown(self) -> int:
        """Images of all rows of the policy pass."""
        return self.group * (self.num_images + self.turns)


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Qwen's special tokens, and merges learned from what is said here, so that tools take few tokens."""
    template = (Path(trl.__file__).parent / "chat_templates" / "qwen3_vl.jinja").read_text(encoding="utf-8")
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=1000, initial_alphabet=alphabet, show_progress=False)
    core.train_from_iterator([template, call_of(1, 2), "user\n assistant\n system\n Part . Which ?"] * 20, trainer)
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL])
    core.add_tokens([AddedToken(token, special=False, normalized=False) for token in CALLS])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=END,
        pad_token=PAD,
        padding_side="left",
        model_max_length=32768,
        clean_up_tokenization_spaces=False,
        extra_special_tokens={"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"},
    )
    tokenizer.chat_template = template
    return tokenizer


def build_processor(side_pixels: int) -> Any:
    """The stock processor."""
    budget = {"shortest_edge": (PATCH * MERGE) ** 2, "longest_edge": side_pixels**2}
    images = Qwen2VLImageProcessorPil(size=budget, patch_size=PATCH, merge_size=MERGE)
    return image_only_processor("Qwen3VLProcessor", image_processor=images, tokenizer=build_tokenizer())


def build_model(case: Case, tokenizer: Any) -> Qwen3VLForConditionalGeneration:
    """A freshly initialised float32 model in training mode."""
    torch.manual_seed(0)
    head, ids = case.hidden // 4, tokenizer.convert_tokens_to_ids
    quarter = 3 * head // 16
    config = Qwen3VLConfig(
        text_config={
            "vocab_size": max(case.vocabulary, len(tokenizer)),
            "hidden_size": case.hidden,
            "intermediate_size": int(case.hidden * 2.75),
            "num_hidden_layers": case.layers,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "head_dim": head,
            "max_position_embeddings": 32768,
            "eos_token_id": ids(END),
            "pad_token_id": ids(PAD),
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10000.0,
                "mrope_section": [head // 2 - 2 * quarter, quarter, quarter],
            },
        },
        vision_config={
            "depth": case.vision_layers,
            "hidden_size": case.vision_hidden,
            "intermediate_size": int(case.vision_hidden * 2.75),
            "num_heads": 4,
            "out_hidden_size": case.hidden,
            "patch_size": PATCH,
            "spatial_merge_size": MERGE,
            "num_position_embeddings": 256,
            "deepstack_visual_indexes": [0, 1],
        },
        image_token_id=ids("<|image_pad|>"),
        video_token_id=ids("<|video_pad|>"),
        vision_start_token_id=ids("<|vision_start|>"),
        vision_end_token_id=ids("<|vision_end|>"),
        tie_word_embeddings=False,
    )
    model = Qwen3VLForConditionalGeneration(config).train()
    model.model.visual.requires_grad_(not case.freeze_tower)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = ids(END), ids(PAD)
    return model


def call_of(x: int, y: int) -> str:
    """A call as Qwen3-VL writes it."""
    return f"<tool_call>\n{json.dumps({'name': 'zoom', 'arguments': {'x': x, 'y': y}})}\n</tool_call>"


def scripts(case: Case, tokenizer: Any) -> list[list[list[int]]]:
    """What every rollout says in every turn, at one length: words, then a call; at the end words alone."""
    words = np.random.default_rng(0)
    found = []
    for turn in range(case.turns + 1):
        rows = []
        for row in range(case.group):
            said = call_of(0 if case.shared else row, turn) if turn < case.turns else ""
            tail = [*tokenizer(said)["input_ids"], tokenizer.eos_token_id] if said else [tokenizer.eos_token_id]
            assert len(tail) < case.sampled_tokens, f"a call takes {len(tail)} tokens"
            filler = words.integers(97, 122, case.sampled_tokens - len(tail)).tolist()
            rows.append([*tokenizer(" ".join(map(chr, filler)))["input_ids"][: len(filler)], *tail])
        found.append(rows)
    return found


class _Says(LogitsProcessor):
    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        self.rows = torch.tensor(rows)
        self.step = 0

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        wanted = self.rows[:, self.step, None]
        self.step += 1
        return torch.full_like(scores, -torch.inf).scatter(1, wanted, 0.0)


def let_say(model: Any, rows_of_turns: Sequence[Sequence[Sequence[int]]]) -> None:
    """Let every call of the model's `generate` say the next turn."""
    generate, turns = model.generate, iter(rows_of_turns)

    def scripted(*args: Any, logits_processor: Any = None, **kwargs: Any) -> Any:
        processors = LogitsProcessorList([*(logits_processor or []), _Says(next(turns))])
        return generate(*args, logits_processor=processors, **kwargs)

    model.generate = scripted

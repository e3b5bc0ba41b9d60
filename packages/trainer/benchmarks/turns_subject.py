"""What is measured of rollouts with tools: a small Qwen3-VL, a tool that returns an image, and trainers of both kinds.

The model says what a script says, turn by turn, because a model of random weights calls nothing: its logits are
computed as ever, and all but the script's next token are then ruled out.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trl
from datasets import Dataset
from PIL import Image
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedTokenizerFast,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    TrainerCallback,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from triptych_data.image_only import image_only_processor
from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer
from trl import GRPOConfig, GRPOTrainer

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

    @property
    def num_unique(self) -> int:
        """Images that differ, those of the prompt among them."""
        return self.num_images + self.turns * (1 if self.shared else self.group)

    @property
    def num_shown(self) -> int:
        """Images of all rows of the policy pass."""
        return self.group * (self.num_images + self.turns)


@dataclass(kw_only=True, slots=True)
class Measured:
    """What one step took; seconds are those of the process's CPU time."""

    generation_seconds: float = 0.0
    policy_seconds: float = 0.0
    wall_seconds: float = 0.0
    preprocessed: int = 0
    encoded: int = 0
    prefilled_tokens: int = 0
    """Tokens that were forwarded before sampling, pads and repetitions left in."""
    completion_ids: list[list[int]] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """Of the whole step."""
        return self.generation_seconds + self.policy_seconds


def noise(number: int, side_pixels: int) -> Image.Image:
    """A picture unlike that of every other number."""
    values = np.random.default_rng(number).integers(0, 256, (side_pixels, side_pixels, 3), dtype=np.uint8)
    return Image.fromarray(values)


def zoom_of(side_pixels: int) -> Callable[..., Any]:
    """The tool: a plain function, as TRL takes it."""

    def zoom(x: int, y: int) -> list:  # type: ignore[type-arg]
        """Look closer at a place.

        Args:
            x: The column.
            y: The row.
        """
        return [{"type": "image", "image": noise(1000 + 100 * y + x, side_pixels)}]

    return zoom


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


def arguments(folder: Path, case: Case) -> GRPOConfig:
    """TRL's defaults on a CPU in float32: one prompt, one step."""
    return GRPOConfig(
        output_dir=str(folder),
        use_cpu=True,
        bf16=False,
        max_steps=1,
        num_generations=case.group,
        per_device_train_batch_size=case.group,
        max_completion_length=(case.turns + 1) * (case.sampled_tokens + (case.side_pixels // 32) ** 2 + 40),
        max_tool_calling_iterations=case.turns,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
        learning_rate=1e-5,
    )


def dataset(case: Case) -> Dataset:
    """One prompt, in TRL's columns."""

    def rows(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        parts: list[dict[str, str]] = []
        for k in range(case.num_images):
            parts += [{"type": "text", "text": f"Part {k + 1} "}, {"type": "image"}, {"type": "text", "text": " . "}]
        messages = [{"role": "user", "content": [*parts, {"type": "text", "text": "Which ?"}]}]
        shown = [noise(k, case.side_pixels) for k in range(case.num_images)]
        return {"prompt": [messages for _ in batch["row"]], "images": [shown for _ in batch["row"]]}

    return Dataset.from_dict({"row": [0]}).with_transform(rows)


class Reward:
    """Another number for each rollout; keeps their tokens."""

    __name__ = "reward"

    def __init__(self) -> None:
        self.completion_ids: list[list[int]] = []

    def __call__(self, completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
        """Score by the number of the row."""
        self.completion_ids = [list(ids) for ids in completion_ids]
        return [float(k) for k in range(len(completion_ids))]


def trainer_of(kind: str, folder: Path, case: Case) -> GRPOTrainer:
    """`trl` or `triptych`, over the same rows, weights, tool and script."""
    processor = build_processor(case.side_pixels)
    model = build_model(case, processor.tokenizer)
    let_say(model, scripts(case, processor.tokenizer))
    common = {
        "args": arguments(folder, case),
        "train_dataset": dataset(case),
        "processing_class": processor,
        "tools": [zoom_of(case.side_pixels)],
    }
    if kind == "trl":
        return GRPOTrainer(model, Reward(), **common)
    trainer = MultiImageGRPOTrainer(model, Reward(), verify_model=False, **common)
    trainer.engine.verify = False  # the comparison at first use is made once in a run, and not in every step
    return trainer


def measure(trainer: GRPOTrainer) -> Measured:
    """Train one step; count images, tokens and seconds."""
    found = Measured()
    trainer.log = lambda *args, **kwargs: None
    _count_calls(trainer, found)
    collect = trainer._generate_and_score_completions

    def timed(inputs: Any) -> Any:
        start = time.process_time()
        batch = collect(inputs)
        found.generation_seconds = time.process_time() - start
        return batch

    trainer._generate_and_score_completions = timed
    clock = _Clock()
    trainer.add_callback(clock)
    trainer.train()
    found.policy_seconds = clock.cpu_seconds - found.generation_seconds
    found.wall_seconds = clock.wall_seconds
    found.completion_ids = trainer.reward_funcs[0].completion_ids
    return found


class _Clock(TrainerCallback):
    def __init__(self) -> None:
        self.cpu_seconds = self.wall_seconds = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.began = (time.process_time(), time.monotonic())

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.cpu_seconds = time.process_time() - self.began[0]
        self.wall_seconds = time.monotonic() - self.began[1]


def _count_calls(trainer: GRPOTrainer, found: Measured) -> None:
    """Count images through the image processor and the tower, and tokens of calls that fill a cache."""
    processor = trainer.processing_class.image_processor
    stock = type(processor)

    def call(self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        found.preprocessed += sum(len(row) if isinstance(row, (list, tuple)) else 1 for row in images if row)
        return stock.__call__(self, images, *args, **kwargs)

    def encode(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        found.encoded += len(kwargs["grid_thw"])

    def forward(module: Any, args: Any, kwargs: dict[str, Any]) -> None:
        ids_BT = kwargs.get("input_ids")
        if ids_BT is not None and ids_BT.shape[1] > 1 and not torch.is_grad_enabled():
            found.prefilled_tokens += ids_BT.numel()

    processor.__class__ = type(stock.__name__, (stock,), {"__call__": call})
    trainer.model.model.visual.register_forward_pre_hook(encode, with_kwargs=True)
    trainer.model.register_forward_pre_hook(forward, with_kwargs=True)

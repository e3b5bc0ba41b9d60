"""What is measured: small Qwen2.5-VL models, one prompt of noise images, and trainers of both kinds over it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from PIL import Image
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from triptych_data import ImageLoader, load_image, read_examples
from triptych_data.image_only import image_only_processor
from triptych_trainer.demo import build_tokenizer
from triptych_trainer.demo.model import build_config
from triptych_trainer.forward import GroupBatch
from triptych_trainer.forward.hooks import remove_hooks
from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer
from triptych_trainer.models.load import freeze_vision_modules
from triptych_trainer.prompts.example_table import ExampleTable
from triptych_trainer.prompts.prepare import PreparedPrompt, PromptPreparer
from trl import GRPOConfig, GRPOTrainer


@dataclass(frozen=True, kw_only=True, slots=True)
class Size:
    """Dimensions of a model; the vision tower's share of the work is that of Qwen2.5-VL-7B or less."""

    hidden: int
    layers: int
    vision_hidden: int
    vision_layers: int
    heads: int
    kv_heads: int
    vocabulary: int | None = None
    """Rows of the embedding; None: those of the tokenizer (about 400)."""


PASS = Size(hidden=512, layers=8, vision_hidden=256, vision_layers=8, heads=8, kv_heads=2, vocabulary=8192)
STEP = Size(hidden=256, layers=8, vision_hidden=192, vision_layers=4, heads=4, kv_heads=2)
TINY = Size(hidden=128, layers=2, vision_hidden=64, vision_layers=2, heads=4, kv_heads=4)


def build_model(size: Size) -> Qwen2_5_VLForConditionalGeneration:
    """A freshly initialised float32 model in training mode."""
    tokenizer = build_tokenizer()
    config: Qwen2_5_VLConfig = build_config(tokenizer)
    text, vision = config.text_config, config.vision_config
    text.hidden_size, text.num_hidden_layers = size.hidden, size.layers
    text.intermediate_size = int(size.hidden * 2.75)
    text.num_attention_heads, text.num_key_value_heads = size.heads, size.kv_heads
    text.vocab_size = size.vocabulary or len(tokenizer)
    text.max_position_embeddings = 32768
    text.layer_types = ["full_attention"] * size.layers
    head = size.hidden // size.heads // 2
    sections = [head - 2 * (3 * head // 8), 3 * head // 8, 3 * head // 8]
    text.rope_parameters = {**text.rope_parameters, "mrope_section": sections}
    vision.hidden_size, vision.depth = size.vision_hidden, size.vision_layers
    vision.intermediate_size, vision.out_hidden_size = int(size.vision_hidden * 2.75), size.hidden
    vision.fullatt_block_indexes = [size.vision_layers - 1]
    torch.manual_seed(0)
    return Qwen2_5_VLForConditionalGeneration(config).train()


def build_processor() -> Any:
    """The stock processor for images of up to 1024 tokens, and the demo's tokenizer without its length limit."""
    tokenizer = build_tokenizer()
    tokenizer.model_max_length = 32768
    images = Qwen2VLImageProcessorPil(size={"shortest_edge": 28 * 28, "longest_edge": 28 * 28 * 1024})
    return image_only_processor("Qwen2_5_VLProcessor", image_processor=images, tokenizer=tokenizer)


def write_prompts(folder: Path, *, num_images: int, side_pixels: int, num_prompts: int = 1) -> Path:
    """Write a JSONL of prompts with that many JPEG images of noise each; returns its path."""
    generator = torch.Generator().manual_seed(num_images)
    rows = []
    for prompt in range(num_prompts):
        names = [f"{prompt}-{k}.jpg" for k in range(num_images)]
        for name in names:
            noise_HWC = torch.randint(0, 256, (side_pixels, side_pixels, 3), generator=generator, dtype=torch.uint8)
            Image.fromarray(noise_HWC.numpy()).save(folder / name)
        text = "".join(f"Part {k + 1} <image> . " for k in range(num_images)) + "Which ?"
        turns = [{"from": "human", "value": text}, {"from": "gpt", "value": "red"}]
        rows.append({"id": str(prompt), "image": names, "conversations": turns})
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def prepare_prompt(data: Path) -> PreparedPrompt:
    """The first prompt of a file, as the trainer gets it."""
    with ImageLoader(threads=1) as loader:
        return PromptPreparer(build_processor(), loader=loader)(read_examples(data)[0])


def group_batch(prompt: PreparedPrompt, *, group: int, completion_tokens: int) -> GroupBatch:
    """One prompt with ``group`` random completions."""
    generator = torch.Generator().manual_seed(group)
    completions = torch.randint(10, 300, (group, completion_tokens), generator=generator).tolist()
    return GroupBatch.build(
        [prompt.ids], completions=[completions], spans=[prompt.spans], images=list(prompt.image_inputs)
    )


def stock_logps(model: torch.nn.Module, batch: GroupBatch, *, rows: int) -> torch.Tensor:
    """What trainers do: the first ``rows`` rows, prompt and images replicated, through the stock forward [rows, C]."""
    prompt, completions = batch.prompts[0], batch.completions[0][:rows]
    ids_BT = torch.tensor([[*prompt, *completion] for completion in completions])
    types_BT = (ids_BT == model.config.image_token_id).long()
    types_BT[:, len(prompt) :] = 0
    images = list(batch.images) * len(completions)
    width = len(completions[0])
    logits_BCV = model(
        input_ids=ids_BT,
        attention_mask=torch.ones_like(ids_BT),
        mm_token_type_ids=types_BT,
        pixel_values=torch.cat([image["pixel_values"] for image in images]),
        image_grid_thw=torch.cat([image["image_grid_thw"] for image in images]),
        logits_to_keep=width + 1,
        use_cache=False,
    ).logits[:, :-1]
    return logits_BCV.log_softmax(-1).gather(-1, torch.tensor(completions)[..., None])[..., 0]


def config(folder: Path, *, group: int, completion_tokens: int, num_prompts: int = 1, **options: Any) -> GRPOConfig:
    """TRL's defaults on a CPU in float32, with completions of exactly ``completion_tokens`` tokens."""
    tokenizer = build_tokenizer()
    never = ["<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>", "<|im_end|>", "<|endoftext|>"]
    defaults = {
        "output_dir": str(folder / "out"),
        "use_cpu": True,
        "bf16": False,
        "max_steps": 1,
        "num_generations": group,
        "per_device_train_batch_size": group * num_prompts,
        "max_completion_length": completion_tokens,
        "generation_kwargs": {"suppress_tokens": tokenizer.convert_tokens_to_ids(never)},
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "learning_rate": 1e-5,
    }
    return GRPOConfig(**{**defaults, **options})


def reward(completion_ids: Sequence[Sequence[int]], **_: Any) -> list[float]:
    """A reward with variance on random ids."""
    return [float(sum(ids) % 13) for ids in completion_ids]


def with_ids_of_tokenizer(model: Qwen2_5_VLForConditionalGeneration) -> Qwen2_5_VLForConditionalGeneration:
    """A model of another size, with the special ids of the tokenizer, that no trainer has prepared."""
    own = build_config(build_tokenizer())
    remove_hooks(model)
    for name in ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id"):
        setattr(model.config, name, getattr(own, name))
    text = own.text_config  # transformers 5.17 keeps these ids there alone
    model.generation_config.eos_token_id = model.config.eos_token_id = text.eos_token_id
    model.generation_config.pad_token_id = model.config.pad_token_id = text.pad_token_id
    return model


def stock_trainer(
    data: Path,
    args: GRPOConfig,
    *,
    size: Size | None = None,
    freeze_vision: bool = False,
    model: torch.nn.Module | None = None,
) -> GRPOTrainer:
    """Stock TRL's trainer; its dataset decodes the images when a row is read, as ``datasets.Image`` does."""
    if model is None:
        assert size is not None
        model = _model(size, freeze_vision, Path(args.output_dir))
    examples = list(read_examples(data))

    def rows(batch: dict[str, list[int]]) -> dict[str, list[Any]]:
        chosen = [examples[index] for index in batch["example"]]
        images = [[load_image(source) for source in example.images] for example in chosen]
        return {"prompt": [example.prompt.messages() for example in chosen], "images": images}

    dataset = Dataset.from_dict({"example": list(range(len(examples)))}).with_transform(rows)
    return GRPOTrainer(
        model,
        reward,
        args=args,
        train_dataset=dataset,
        processing_class=build_processor(),
    )


def triptych_trainer(
    data: Path,
    args: GRPOConfig,
    *,
    size: Size,
    loader: ImageLoader,
    freeze_vision: bool = False,
    model: torch.nn.Module | None = None,
    group_sharing: str = "auto",
) -> MultiImageGRPOTrainer:
    """Triptych's trainer on the same rows and weights, or on a given model."""
    examples = list(read_examples(data))
    return MultiImageGRPOTrainer(
        _model(size, freeze_vision, Path(args.output_dir)) if model is None else model,
        [reward],
        args=args,
        train_dataset=ExampleTable(examples),
        preparer=PromptPreparer(build_processor(), loader=loader),
        group_sharing=group_sharing,
    )


def _model(size: Size, freeze_vision: bool, folder: Path) -> torch.nn.Module:
    """A model that knows where it can be loaded again: TRL reads the reference model from there."""
    model = build_model(size)
    path = folder.parent / "model"
    if not path.exists():
        model.save_pretrained(path)
    model.config._name_or_path = str(path)
    if freeze_vision:
        freeze_vision_modules(model)
    return model

"""CPU time per unique image: TRL's own way, plain Pillow, `datasets` Image, and ours, for the same prompts.

As tests these run once on small pictures. `pytest --benchmark-enable` times them at the sizes below by CPU time, and
`python bench_loading.py` prints the table of docs/performance.md.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
import torch
from PIL import Image
from transformers.image_utils import load_image as load_image_hf
from triptych_data import Example, ImageLoader, ImageSource, VisionSpec
from triptych_parser import bind, parse
from trl.trainer.utils import RepeatSampler

COMPLETIONS = 8
IMAGES_PER_PROMPT = 2
SIZES = {
    "1080p JPEG": (1920, 1080, "JPEG"),
    "12 MP JPEG": (4000, 3000, "JPEG"),
    "PNG screenshot 1440x3200": (1440, 3200, "PNG"),
}
SMALL = {"JPEG": (320, 240), "PNG": (240, 320)}


@functools.cache
def image_processor() -> Any:
    """Qwen2-VL's default processor: torchvision's where that is installed, Pillow's otherwise."""
    try:
        import torchvision  # noqa: F401
    except ImportError:
        from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

        return Qwen2VLImageProcessorPil()
    from transformers.models.qwen2_vl.image_processing_qwen2_vl import Qwen2VLImageProcessor

    return Qwen2VLImageProcessor()


def picture(width: int, height: int, format: str, *, seed: int) -> Image.Image:
    """A photograph-like picture (smooth shades, sensor noise), or a screenshot-like one for PNG."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    base = np.stack(
        [128 + 90 * np.sin(x / 97 + seed), 128 + 80 * np.cos(y / 131), (x + y) * 255 / (height + width)], -1
    )
    if format == "PNG":
        blocks = generator.integers(0, 256, (height // 40 + 1, width // 40 + 1, 3)).repeat(40, 0).repeat(40, 1)
        base = np.where(generator.random((height, width, 1)) < 0.03, 0, blocks[:height, :width])
    else:
        base += generator.normal(0, 7, base.shape)
    return Image.fromarray(np.clip(base, 0, 255).astype(np.uint8))


def prompts(folder: Path, *, width: int, height: int, format: str, count: int) -> list[Example]:
    """`count` prompts of two images each, written to `folder`."""
    found = []
    for index in range(count):
        names = []
        for place in range(IMAGES_PER_PROMPT):
            name = f"{index}-{place}.{format.lower()}"
            options = {"quality": 92} if format == "JPEG" else {}
            picture(width, height, format, seed=2 * index + place).save(folder / name, format, **options)
            names.append(name)
        bound = bind(parse("Before: <image> After: <image>"), IMAGES_PER_PROMPT)
        images = tuple(ImageSource(ref=name, root=folder) for name in names)
        found.append(
            Example(id=str(index), prompt=bound, images=images, answer=None, extras={}, source=f"bench:{index + 1}")
        )
    return found


def paths(examples: list[Example]) -> list[list[str]]:
    return [[str(image.root / image.ref) for image in example.images] for example in examples]


def trl_way(examples: list[Example], *, steps_per_generation: int) -> dict[str, Any]:
    """TRL 1.16: its sampler over `datasets` Image, the first of each repetition used, two processor calls per row."""
    table = datasets.Dataset.from_dict({"images": paths(examples)})
    table = table.cast_column("images", datasets.List(datasets.Image()))
    processor = image_processor()
    sampler = RepeatSampler(
        table, mini_repeat_count=COMPLETIONS, batch_size=len(examples), repeat_count=steps_per_generation, shuffle=False
    )
    batch_size = len(examples) * COMPLETIONS
    loader = torch.utils.data.DataLoader(table, batch_size=batch_size, sampler=sampler, collate_fn=lambda rows: rows)
    pixels = None
    for number, batch in enumerate(loader):
        if number % steps_per_generation:
            continue  # decoded, then thrown away: the generation step's batch is reused
        pictures = [image for row in batch for image in row["images"]]
        processor(images=pictures, return_tensors="pt")  # apply_chat_template(tokenize=True)
        pixels = processor(images=pictures, return_tensors="pt")["pixel_values"]  # processing_class(images=...)
    return {"pixel_values": [pixels[: len(pixels) // COMPLETIONS]] if len(examples) == 1 else [pixels]}


def our_way(examples: list[Example]) -> dict[str, Any]:
    """As a prompt is prepared for training: each image decoded once by the loader, one call of the image processor."""
    with ImageLoader(threads=1) as images:
        for example in examples:
            images.prefetch(example)
        pictures = [image for example in examples for image in images.get(example)]
        pixels = image_processor()(images=pictures, return_tensors="pt")["pixel_values"]
        return {"pixel_values": [pixels], "decodes": images.decodes}


def pillow_way(examples: list[Example]) -> dict[str, Any]:
    """Open, convert and resize with Pillow, once per unique image."""
    spec = VisionSpec.from_processor(image_processor())
    resized = None
    for files in paths(examples):
        for file in files:
            image = load_image_hf(file)
            height, width = spec.targets([(image.height, image.width)]).sizes[0] or (0, 0)
            resized = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    return {"shape": resized.shape}


def datasets_way(examples: list[Example]) -> dict[str, Any]:
    """One pass over a `datasets` table with an Image column: decoded, not resized."""
    table = datasets.Dataset.from_dict({"images": paths(examples)})
    table = table.cast_column("images", datasets.List(datasets.Image()))
    size = None
    for row in table:
        for image in row["images"]:
            size = image.convert("RGB").size
    return {"size": size}


WAYS: dict[str, Callable[[list[Example]], dict[str, Any]]] = {
    "triptych": our_way,
    "trl, steps_per_generation=1": lambda examples: trl_way(examples, steps_per_generation=1),
    "trl, steps_per_generation=4": lambda examples: trl_way(examples, steps_per_generation=4),
    "Pillow, once per image": pillow_way,
    "datasets Image, once per image": datasets_way,
}


@pytest.mark.slow_except("1080p JPEG-*")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.benchmark(timer=time.process_time, min_rounds=3)
def test_cpu_per_image(benchmark: Any, tmp_path: Path, size: str, way: str) -> None:
    width, height, format = SIZES[size]
    if benchmark.disabled:
        width, height = SMALL[format]
    benchmark.group = f"CPU per prompt of {IMAGES_PER_PROMPT} images, G={COMPLETIONS}: {size}"
    examples = prompts(tmp_path, width=width, height=height, format=format, count=1)
    result = benchmark(WAYS[way], examples)
    benchmark.extra_info["pixels"] = width * height * IMAGES_PER_PROMPT
    if way == "triptych":
        assert result["decodes"] == IMAGES_PER_PROMPT  # 1.00 per unique image
    if "pixel_values" in result:
        processor = image_processor()
        pictures = [load_image_hf(path) for path in paths(examples)[0]]
        expected = processor(images=pictures, return_tensors="pt")["pixel_values"]
        found = torch.cat(result["pixel_values"])
        assert found.shape == expected.shape
        difference = (found - expected).abs()
        assert difference.max().item() == 0


def cpu_seconds(work: Callable[[], object], *, rounds: int) -> float:
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


def main() -> None:
    """Print the table: CPU milliseconds per unique image, and how many times ours each way costs."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--no_scaling", action="store_true", help="leave out the comparison by the clock")
    arguments = parser.parse_args()
    datasets.disable_progress_bars()
    torch.set_num_threads(1)
    name = type(image_processor()).__name__
    print(f"image processor: {name}; min of {arguments.rounds} rounds, CPU ms per unique image\n")
    print("| size | way | ms | against ours |\n|---|---|---:|---:|", flush=True)
    for size, (width, height, format) in SIZES.items():
        with tempfile.TemporaryDirectory() as folder:
            examples = prompts(Path(folder), width=width, height=height, format=format, count=1)
            ours = 0.0
            for way, work in WAYS.items():
                seconds = cpu_seconds(lambda work=work, given=examples: work(given), rounds=arguments.rounds)
                milliseconds = 1000 * seconds / IMAGES_PER_PROMPT
                ours = ours or milliseconds
                print(f"| {size} | {way} | {milliseconds:.1f} | {milliseconds / ours:.1f}x |", flush=True)
            if not arguments.no_scaling:
                ratio = wall_scaling(copies(examples[0], Path(folder), count=6), rounds=arguments.rounds)
                print(f"| {size} | 2 threads against 1, by the clock | | {ratio:.2f}x |", flush=True)


def copies(example: Example, folder: Path, *, count: int) -> list[Example]:
    """The same prompt `count` times, with images of the same bytes under other names."""
    found = []
    for index in range(count):
        images = []
        for place, image in enumerate(example.images):
            name = f"copy-{index}-{place}"
            (folder / name).write_bytes((folder / str(image.ref)).read_bytes())
            images.append(ImageSource(ref=name, root=folder))
        found.append(replace(example, id=str(index), images=tuple(images)))
    return found


def wall_scaling(examples: list[Example], *, rounds: int) -> float:
    """How much faster two threads decode than one, by the clock: only meaningful on an idle machine."""
    spec = VisionSpec.from_processor(image_processor())
    best = {1: float("inf"), 2: float("inf")}
    for _ in range(rounds):
        for threads in best:
            with ImageLoader(threads=threads) as images:
                sizes = [spec.targets(images.sizes(example)).sizes for example in examples]
                start = time.perf_counter()
                for example, resized in zip(examples, sizes, strict=True):
                    images.prefetch(example, sizes=resized)
                while images.decodes < len(examples) * IMAGES_PER_PROMPT:
                    time.sleep(0.0005)
                best[threads] = min(best[threads], time.perf_counter() - start)
    return best[1] / best[2]


if __name__ == "__main__":
    main()

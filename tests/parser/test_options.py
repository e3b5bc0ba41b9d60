"""The options of a processor's call are found where each transformers keeps them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from processor_zoo import runs, tiles
from processor_zoo.stock import stock
from processor_zoo.vocabularies import sentence_piece
from transformers.processing_utils import ProcessingKwargs
from triptych_parser import bind, check_processor, parse, tokenize
from triptych_parser.expanders.options import call_defaults, output_size, own_function


def with_defaults(processor: Any, **defaults: dict[str, Any]) -> Any:
    """The processor with its call's defaults where transformers had them before 5.23."""
    cls = type(processor)
    if not hasattr(cls, "images_kwargs"):
        pytest.skip("the call of this processor reads its own class of defaults only")
    keywords = type(f"{cls.__name__}Kwargs", (ProcessingKwargs,), {"_defaults": defaults})
    keywords.__annotations__ = cls.valid_processor_kwargs.__annotations__
    processor.__class__ = type(cls.__name__, (cls,), {"valid_processor_kwargs": keywords, "images_kwargs": {}})
    return processor


def test_defaults_of_the_older_kind_change_the_ids_as_they_change_the_processors() -> None:
    bound = bind(parse("a <image> b"), 1)
    plain = tokenize(bound, runs.internvl(), image_sizes=[(60, 150)])
    older = with_defaults(runs.internvl(), images_kwargs={"crop_to_patches": False})
    check_processor(older)
    assert tokenize(bound, older, image_sizes=[(60, 150)]).num_tokens < plain.num_tokens


def test_pan_and_scan_of_the_older_kind_is_seen() -> None:
    options = {"do_pan_and_scan": True, "pan_and_scan_min_crop_size": 24, "pan_and_scan_max_num_crops": 4}
    older = with_defaults(
        tiles.gemma3(False),
        images_kwargs={**options, "pan_and_scan_min_ratio_to_activate": 1.2, "do_convert_rgb": True},
    )
    check_processor(older)
    assert len(tokenize(bind(parse("<image>"), 1), older, image_sizes=[(48, 100)]).spans[0].runs) == 3


def test_common_defaults_come_before_those_of_a_kind_and_those_before_the_attribute() -> None:
    older = {"images_kwargs": {"b": 2, "c": 2}, "common_kwargs": {"c": 3}, "text_kwargs": {"a": 9}}
    keywords = SimpleNamespace(_defaults=older)
    processor = SimpleNamespace(images_kwargs={"a": 1, "b": 1, "c": 1}, valid_processor_kwargs=keywords)
    assert call_defaults(processor, "images_kwargs") == {"a": 1, "b": 2, "c": 3}
    assert call_defaults(object(), "images_kwargs") == {}


def test_a_tokenizer_that_is_told_to_add_nothing_adds_nothing() -> None:
    tokenizer = sentence_piece(["<image>"], prefix="never")
    tokenizer.init_kwargs["add_special_tokens"] = False
    processor = runs.llava(tokenizer)
    check_processor(processor)
    ids = tokenize(bind(parse("hi"), 0), processor).ids
    assert tokenizer.bos_token_id not in ids


def test_the_output_size_is_the_one_behind_resize_and_crop() -> None:
    size, crop = {"shortest_edge": 28}, {"height": 20, "width": 24}
    images = SimpleNamespace(do_resize=True, do_center_crop=False, size=size, crop_size=crop)
    processor = SimpleNamespace(image_processor=images)
    assert output_size(processor, {}, 56, 84) == (28, 42)
    assert output_size(processor, {}, 84, 56) == (42, 28)
    assert output_size(processor, {"do_center_crop": True}, 84, 56) == (20, 24)
    assert output_size(processor, {"size": {"height": 10, "width": 12}}, 84, 56) == (10, 12)
    images.do_resize = False
    assert output_size(processor, {}, 84, 56) == (84, 56)


def test_a_function_of_the_own_module_is_found_through_base_classes() -> None:
    class Derived(stock("ovis2", "Ovis2ImageProcessorPil")):  # type: ignore[misc]
        pass

    assert own_function(Derived(), "get_optimal_tiled_canvas")((28, 60), (28, 28), 1, 6) == (2, 1)
    with pytest.raises(AttributeError, match="the module of Derived has no function nowhere"):
        own_function(Derived(), "nowhere")

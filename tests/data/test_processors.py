"""A model's processor loads, and is saved whole, with and without torchvision and the folder's video configuration."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
from triptych_data.errors import UsageError
from triptych_data.processors import load_processor

FILE = Path(__file__).with_name("stock_processors.py")
SPEC = importlib.util.spec_from_file_location("triptych_stock_processors", FILE)
stock = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(stock)

pytest.importorskip("torchvision")
# transformers' own, in the stock call of GLM's processor
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")
LAYOUTS = ("as saved by transformers 5", "a file for each part", "without its video configuration")


@pytest.fixture(scope="module")
def processors():
    """The stock processor of every family."""
    return {name: stock.build(name) for name in stock.FAMILIES}


@pytest.fixture(scope="module")
def elsewhere(processors, tmp_path_factory):
    """Folders of every family and layout, read and saved again by one process without torchvision."""
    root = tmp_path_factory.mktemp("processors")
    folders = {}
    for name, processor in processors.items():
        for number, layout in enumerate(LAYOUTS):
            folder = folders[name, layout] = root / f"{name}-{number}"
            processor.save_pretrained(folder)
            if number == 1:
                stock.split_folder(folder)
            elif number == 2:
                config = json.loads((folder / "processor_config.json").read_text())
                del config["video_processor"]
                (folder / "processor_config.json").write_text(json.dumps(config))
    apart = [str(folder) for (name, _), folder in folders.items() if stock.works_apart(name)]
    command = [sys.executable, str(FILE), *apart]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return folders


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", stock.FAMILIES)
def test_without_torchvision_a_processor_gives_the_stock_ids_and_saves_a_folder_that_stock_loads(
    processors, elsewhere, name, layout
):
    from transformers import AutoProcessor

    if not stock.works_apart(name):
        pytest.skip(f"this transformers imports the processor of {name} only with torchvision")
    folder = elsewhere[name, layout]
    expected = stock.prompt_of(processors[name])
    said = json.loads((folder / "said.json").read_text())
    assert said["cls"] == type(processors[name]).__name__
    assert said["ids"] == expected["ids"]
    assert said["shapes"] == expected["shapes"]
    again = AutoProcessor.from_pretrained(folder / "again")
    assert type(again) is type(processors[name])
    assert stock.prompt_of(again) == expected
    video, original = again.video_processor, processors[name].video_processor
    assert type(video) is type(original)
    if layout != LAYOUTS[2]:
        assert {key: video.to_dict()[key] for key in original.to_dict()} == original.to_dict()


@pytest.mark.slow
@pytest.mark.parametrize("name", stock.FAMILIES)
def test_with_torchvision_the_stock_class_is_loaded_and_a_missing_video_branch_is_written_again(
    processors, elsewhere, name, tmp_path
):
    from transformers import AutoProcessor

    whole = load_processor(str(elsewhere[name, LAYOUTS[0]]))
    assert type(whole) is type(processors[name])
    folder = elsewhere[name, LAYOUTS[2]]
    with pytest.raises(OSError, match="video processor"):
        AutoProcessor.from_pretrained(folder)
    found = load_processor(str(folder))
    assert stock.prompt_of(found) == stock.prompt_of(processors[name])
    found.save_pretrained(tmp_path)
    again = AutoProcessor.from_pretrained(tmp_path)
    assert type(again) is type(processors[name])
    assert type(again.video_processor) is type(processors[name].video_processor)


def test_a_folder_of_a_class_without_a_video_branch_says_what_is_wrong_with_it(processors, tmp_path):
    folder = tmp_path / "model"
    processors["qwen2_5_vl"].save_pretrained(folder)
    config = json.loads((folder / "processor_config.json").read_text())
    (folder / "processor_config.json").write_text(json.dumps({**config, "processor_class": "Gemma3Processor"}))
    with pytest.raises(UsageError, match=rf"^--model {folder}: no processor can be loaded: "):
        load_processor(str(folder))


def test_where_torchvision_could_be_what_is_missing_the_message_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr("transformers.utils.is_torchvision_available", lambda: False)
    with pytest.raises(UsageError, match=r"no processor can be loaded: .* pip install torchvision$"):
        load_processor(str(tmp_path))


def test_a_folder_of_a_tokenizer_alone_takes_no_images(processors, tmp_path):
    processors["qwen2_5_vl"].tokenizer.save_pretrained(tmp_path / "model")
    file = tmp_path / "model" / "tokenizer_config.json"
    config = json.loads(file.read_text())
    config.pop("processor_class", None)
    file.write_text(json.dumps(config))
    with pytest.raises(UsageError, match="--base .*: no processor can be loaded: .*takes no images"):
        load_processor(str(tmp_path / "model"), option="--base")


def test_a_folder_whose_prompts_nobody_has_compared_is_refused_in_one_sentence(processors, tmp_path):
    folder = tmp_path / "model"
    processors["qwen2_5_vl"].save_pretrained(folder)
    config = json.loads((folder / "processor_config.json").read_text())
    (folder / "processor_config.json").write_text(json.dumps({**config, "processor_class": "GotOcr2Processor"}))
    with pytest.raises(UsageError) as caught:
        load_processor(str(folder))
    assert str(caught.value) == (
        f"--model {folder}: GotOcr2Processor cannot be verified, a small prompt ends in an error: GotOcr2Processor "
        "cannot count the tokens of an image; correct what the error names, or use a processor that "
        "docs/markers.md names"
    )


@pytest.mark.parametrize(
    "size",
    [
        pytest.param({"shortest_edge": 784}, id="one of two limits"),
        pytest.param({"height": 56, "width": 56}, id="limits of another processor"),
        pytest.param({"shortest_edge": "784", "longest_edge": "50176"}, id="numbers as text"),
    ],
)
def test_settings_that_the_stock_code_fails_on_are_one_sentence(processors, tmp_path, size):
    processors["qwen2_5_vl"].save_pretrained(tmp_path)
    file = tmp_path / "processor_config.json"
    settings = json.loads(file.read_text())
    settings["image_processor"]["size"] = size
    file.write_text(json.dumps(settings))
    with pytest.raises(UsageError, match=r"Qwen2_5_VLProcessor fails with its own settings \(TypeError: '>' not sup"):
        load_processor(str(tmp_path))

"""A model folder whose config files a run would refuse is refused before, by every command that loads its processor."""

from __future__ import annotations

import pytest
from triptych_data.errors import UsageError
from triptych_data.model_files import check_model_files


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"model.safetensors": ""}, ": the folder has weights, but no config.json; copy it from the model"),
        ({"config.json": "{"}, "/config.json: not valid JSON (Expecting property name"),
        ({"config.json": "[]"}, "/config.json: expected a JSON object, got list; copy it"),
        ({"config.json": "{}"}, ": transformers refuses its config.json: "),
        ({"config.json": '{"model_type": "zzz"}'}, "has model type `zzz`; correct it, or give another"),
        ({"generation_config.json": "{"}, "/generation_config.json: not valid JSON (Expecting property name"),
    ],
)
def test_a_folder_of_no_whole_model_is_refused(tmp_path, files, expected):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(UsageError) as refused:
        check_model_files(str(tmp_path), option="--model")
    assert str(refused.value).startswith(f"--model {tmp_path}")
    assert expected in str(refused.value)


@pytest.mark.parametrize(
    "files",
    [
        {"preprocessor_config.json": "{}"},
        {"adapter_config.json": "{}", "adapter_model.safetensors": ""},
        {"config.json": '{"model_type": "qwen2_vl"}', "generation_config.json": "{}", "model.safetensors": ""},
    ],
)
def test_a_processor_alone_adapters_and_a_whole_model_pass(tmp_path, files):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    check_model_files(str(tmp_path), option="--model")

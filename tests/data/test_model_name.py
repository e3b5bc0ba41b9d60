import pytest
from triptych_data.errors import UsageError
from triptych_data.model_name import check_model_name


@pytest.mark.parametrize("name", ["out", "out/", "outputs/demo/checkpoint-2", "./out/x", "/nowhere/model", "~/model"])
def test_what_is_no_folder_and_can_be_no_hub_id_is_said_before_the_hub_is_asked(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        check_model_name(name, option="--model")
    assert str(caught.value).startswith(f"--model {name}: no such folder (looked from {tmp_path}); ")


def test_folders_and_hub_ids_pass(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    for name in ("out", "./out", str(tmp_path), "Qwen/Qwen2.5-VL-3B-Instruct"):
        check_model_name(name, option="--model")

"""`triptych merge`: one folder that gives what model and adapters gave, or one sentence and nothing written."""

import json

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForImageTextToText
from triptych_trainer.commands.merge import main
from triptych_trainer.models.load import load_processor

IDS = torch.tensor([[8, 9, 10, 11]])


@pytest.fixture(scope="module")
def adapters(model_dir, tmp_path_factory):
    """A folder of adapters that are not zero."""
    folder = tmp_path_factory.mktemp("adapters")
    model = AutoModelForImageTextToText.from_pretrained(model_dir)
    torch.manual_seed(3)
    targets = r".*language_model\..*(q_proj|down_proj)"
    get_peft_model(model, LoraConfig(target_modules=targets, r=2, init_lora_weights=False)).save_pretrained(folder)
    return folder


def logits_of(model):
    with torch.no_grad():
        return model.eval()(input_ids=IDS).logits


def test_the_merged_folder_holds_one_model_that_answers_as_its_two_parts(adapters, model_dir, tmp_path, capsys):
    out = tmp_path / "new" / "merged"
    assert main([str(adapters), "-o", str(out)]) == 0
    assert "differ from those of model and adapters by at most" in capsys.readouterr().out
    assert not (out / "adapter_config.json").exists()
    base = AutoModelForImageTextToText.from_pretrained(model_dir)
    plain = logits_of(base)
    expected = logits_of(PeftModel.from_pretrained(base, adapters))
    merged = AutoModelForImageTextToText.from_pretrained(out)
    torch.testing.assert_close(logits_of(merged), expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(plain, expected, atol=1e-2), "these adapters change something"
    assert type(load_processor(str(out))) is type(load_processor(str(model_dir)))
    assert [path.name for path in out.parent.iterdir()] == ["merged"], "nothing is left beside it"


def test_what_cannot_be_merged_is_said_and_nothing_is_written(adapters, model_dir, tmp_path, capsys):
    out = tmp_path / "merged"

    def refused(*words):
        assert main([*words, "-o", str(out)]) == 2
        assert not out.exists() or not any(out.iterdir())
        return capsys.readouterr().err

    assert "(a folder with a whole model needs no merge)" in refused(str(model_dir))
    assert "ADAPTERS nowhere: no such folder (looked from " in refused("nowhere")
    assert "expected one of auto, float32, float16, bfloat16" in refused(str(adapters), "--dtype", "int4")
    assert main([str(adapters), "-o", str(model_dir)]) == 2
    assert "got one that contains files" in capsys.readouterr().err


def test_a_base_with_rounded_weights_is_refused(adapters, model_dir, tmp_path, capsys):
    base = tmp_path / "base"
    base.mkdir()
    config = json.loads((model_dir / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    (base / "config.json").write_text(json.dumps(config))
    folder = tmp_path / "adapters"
    folder.mkdir()
    for path in adapters.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    described = json.loads((folder / "adapter_config.json").read_text()) | {"base_model_name_or_path": str(base)}
    (folder / "adapter_config.json").write_text(json.dumps(described))
    assert main([str(folder), "-o", str(tmp_path / "merged")]) == 2
    assert "cannot be merged without loss" in capsys.readouterr().err


def test_a_merge_that_changes_what_the_model_says_is_not_saved(adapters, tmp_path, capsys, monkeypatch):
    def wrongly(self, **_):
        return self.unload()  # the base model, without its adapters

    monkeypatch.setattr("peft.PeftModel.merge_and_unload", wrongly, raising=False)
    assert main([str(adapters), "-o", str(tmp_path / "merged")]) == 2
    assert "the merged model differs from its two parts" in capsys.readouterr().err
    assert not (tmp_path / "merged").exists()

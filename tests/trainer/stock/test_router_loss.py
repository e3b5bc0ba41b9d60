"""The load-balancing loss of a model with experts, against stock TRL: its logged value and the trained parameters."""

import json
import shutil

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText, Qwen3VLMoeConfig, Qwen3VLMoeForConditionalGeneration
from triptych_trainer.errors import UsageError
from triptych_trainer.grpo.trl.arguments import check_named_experts
from triptych_trainer.models.load import load_processor
from triptych_trainer.upstream.transformers_names import is_at_least
from trl import GRPOConfig

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "decoder_sparse_step": 1}
VISION = {"depth": 2, "hidden_size": 16, "intermediate_size": 24, "num_heads": 2, "patch_size": 14}
SPECIAL = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")


@pytest.fixture(scope="module")
def model_dir(model_dir, tmp_path_factory):
    """A Qwen3-VL with experts in the place of the demo's model, for both trainers."""
    demo = AutoConfig.from_pretrained(model_dir)
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 10000.0}
    text = {**SIZES, **EXPERTS, "num_key_value_heads": 2, "rope_parameters": rope, "pad_token_id": 0}
    text["output_router_logits"] = False  # by which stock TRL knows of experts, and which configs below 5.18 lack
    config = Qwen3VLMoeConfig(
        text_config={**text, "vocab_size": demo.text_config.vocab_size, "router_aux_loss_coef": 0.001},
        vision_config={
            **VISION,
            "out_hidden_size": 32,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
        **{name: getattr(demo, name) for name in SPECIAL},
    )
    torch.manual_seed(0)
    model = Qwen3VLMoeForConditionalGeneration(config)
    with torch.no_grad():
        for name, values in model.named_parameters():
            if name.endswith("mlp.gate.weight"):
                values.mul_(50.0)  # routers that prefer some experts
    folder = tmp_path_factory.mktemp("experts")
    model.save_pretrained(folder)
    load_processor(str(model_dir)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def loaded(model_dir):
    """Its model and processor."""
    return AutoModelForImageTextToText.from_pretrained(model_dir), load_processor(str(model_dir))


@pytest.mark.slow
def test_value_and_parameters_equal_stock_trl(train_ours, train_stock, write_rows, initial):
    data = write_rows([1, 2, 3, 1])
    changes = {"optim": "sgd", "learning_rate": 0.02, "max_grad_norm": 0.0, "max_steps": 2}
    changes |= {"router_aux_loss_coef": 0.5, "gradient_checkpointing": False}  # one batch: stock TRL shuffles several
    stock, ours = train_stock(data, **changes), train_ours(data, **changes)
    assert ours.completions == stock.completions
    logged = stock.logged("aux_loss")
    assert len(logged) == 2
    assert (
        max(abs(value - 2.0) for value in logged) > 1e-2
    )  # of two experts of four: 2 where all are chosen equally often
    assert ours.logged("aux_loss") == pytest.approx(logged, rel=1e-5)
    moved = (stock.parameters - initial).norm()
    assert (ours.parameters - stock.parameters).norm() < 1e-4 * moved
    without = train_ours(data, **{**changes, "router_aux_loss_coef": 0.0})
    assert without.logged("aux_loss") == []
    assert (without.parameters - stock.parameters).norm() > 1e-2 * moved


@pytest.mark.skipif(is_at_least(5, 18), reason="the config has the switch by which TRL finds experts")
def test_experts_that_trl_would_not_find_by_a_name_are_refused(model_dir, tmp_path):
    """TRL said of a Mixture-of-Experts model that it is none."""
    args = GRPOConfig(output_dir=str(tmp_path), router_aux_loss_coef=0.5, use_cpu=True, bf16=False)
    check_named_experts(str(model_dir), args)
    folder = shutil.copytree(model_dir, tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    del config["text_config"]["output_router_logits"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match=r"router_aux_loss_coef 0.5: .*model by its name; pass the loaded model"):
        check_named_experts(str(folder), args)

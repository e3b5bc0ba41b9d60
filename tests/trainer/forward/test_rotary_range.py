"""A row whose rotary embeddings would follow the longest row of its batch is refused; all others are exact."""

from types import SimpleNamespace

import pytest
import torch
from transformers import GenerationConfig
from transformers.models.gemma3.modeling_gemma3 import Gemma3RotaryEmbedding, Gemma3TextConfig
from triptych_trainer.forward import install_hooks, plain_logps, shared_generate, shared_logps
from triptych_trainer.forward.hooks import remove_hooks
from triptych_trainer.forward.rotary_range import RotaryRangeError, limit_of, refuse_beyond_range, rotary_modules

LONG = {
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "longrope": {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [3.0] * 4, "factor": 4.0},
}


@pytest.fixture
def model_of(lab):
    """A tiny model whose rotary embeddings change beyond a number of positions."""

    def model_of(kind, limit):
        config = lab.qwen2_5_vl().config
        text = config.get_text_config()
        text.rope_parameters = {**text.rope_parameters, **LONG[kind], "original_max_position_embeddings": limit}
        text.max_position_embeddings = limit
        torch.manual_seed(0)
        return lab.strengthen(type(lab.qwen2_5_vl())(config))

    return model_of


@pytest.mark.parametrize("kind", LONG)
def test_a_row_beyond_the_range_is_refused_in_every_pass(lab, model_of, kind):
    """One such row changed the log-probabilities of all others by 0.03 and 0.19, and first use passed."""
    batch = lab.qwen_batch()
    model = model_of(kind, 24)
    install_hooks(model)
    sample = {"num_generations": 2, "generation_config": GenerationConfig(max_new_tokens=4, pad_token_id=0)}
    for run in (plain_logps, shared_logps, lambda *given: shared_generate(*given, **sample)):
        with (
            torch.no_grad(),
            pytest.raises(RotaryRangeError, match=rf"a row takes \d+ positions .* beyond 24 .*{kind}"),
        ):
            run(model, batch)
    remove_hooks(model)
    assert not any(module._forward_pre_hooks for module in rotary_modules(model))


@pytest.mark.parametrize("kind", LONG)
def test_rows_up_to_the_range_are_exact(lab, model_of, kind):
    batch = lab.qwen_batch()
    model = model_of(kind, 512)
    stock = lab.stock_logps(model, batch)
    install_hooks(model)
    with torch.no_grad():
        assert (shared_logps(model, batch)[0] - stock[0]).abs().max() < 1e-4


def test_each_type_of_layers_has_its_own_range():
    rope = {"full_attention": {"rope_theta": 1e4, **LONG["dynamic"]}, "sliding_attention": {"rope_theta": 1e4}}
    rope["sliding_attention"]["rope_type"] = "default"
    config = Gemma3TextConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, layer_types=list(rope))
    config.rope_parameters, config.max_position_embeddings = rope, 8
    module = Gemma3RotaryEmbedding(config)
    assert list(rotary_modules(module)) == [module]
    assert limit_of(module, "sliding_attention") is None
    assert limit_of(module, "full_attention") == 8
    module.register_forward_pre_hook(refuse_beyond_range, with_kwargs=True)
    states, positions = torch.zeros(1, 9, 16), torch.arange(9)[None]
    module(states, positions, "sliding_attention")
    module(states[:, :8], position_ids=positions[:, :8], layer_type="full_attention")
    with pytest.raises(RotaryRangeError, match=r"takes 9 positions .* beyond 8 .*rope_type dynamic"):
        module(states, positions, layer_type="full_attention")


def test_other_rotary_embeddings_have_no_limit():
    assert limit_of(SimpleNamespace(rope_type="yarn")) is None
    assert list(rotary_modules(torch.nn.Linear(1, 1))) == []

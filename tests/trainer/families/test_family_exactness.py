"""Every family against its stock transformers forward and generate on the real processor's inputs.

The stock model gets what its processor returns and computes positions, masks and merge itself. Ours gets ids, spans and
the images one by one. Values, all gradients and greedy tokens have to be the same.
"""

import pytest
import torch
from transformers import GenerationConfig
from triptych_trainer.forward import plain_logps, shared_generate, shared_logps
from triptych_trainer.forward.choose import sharing_path
from triptych_trainer.forward.logps import continued_logps
from triptych_trainer.forward.prompt_graph import why_not_once
from triptych_trainer.forward.router_loss import find_routers
from triptych_trainer.models.families import family_of
from triptych_trainer.upstream.transformers_names import declare_router_logits

TOLERANCE = 1e-5


def continued(model, batch, *, compute_entropy):
    """The policy pass that goes on from the prompts of a generation; the shared pass where they are not kept."""
    kept = []
    config = GenerationConfig(do_sample=False, max_new_tokens=1, pad_token_id=0)
    shared_generate(model, batch, num_generations=batch.group_sizes, generation_config=config, keep_prompts=kept.append)
    if not kept:
        return shared_logps(model, batch, compute_entropy=compute_entropy)
    CONTINUED.append(type(model).__name__)
    return continued_logps(model, batch, kept[0], compute_entropy=compute_entropy)


CONTINUED = []
"""The models of this session whose policy pass went on from their prompts."""


@pytest.mark.slow_except("qwen2_5_vl", "gemma3", "llava_onevision")
def test_passes_equal_the_stock_forward_of_every_row(lab, kits, kit, record, monkeypatch):
    stock, prompts = kit.stock, kit.prompts
    columns = stock.config.get_text_config().vocab_size
    monkeypatch.setattr("triptych_trainer.forward.scoring._SLICE_ELEMENTS", 5 * columns)  # several slices in the head
    expected = kits.stock_logps(stock, prompts)
    lab.weighted_loss(*expected).backward()
    gradients = lab.gradients(stock)
    assert expected[0].std() > 0.5
    model = kit.model()
    declare_router_logits(model)
    family = family_of(model)
    text = family.language_model(family.vision_language_model(model))
    has_router_loss = bool(find_routers(text)) and hasattr(text.config, "output_router_logits")
    found = {}
    for way in (plain_logps, shared_logps, *([continued] if why_not_once(model) is None else [])):
        got = way(model, prompts.batch, compute_entropy=True)
        lab.weighted_loss(*got).backward()
        for value, reference in zip(got, expected, strict=True):
            assert (value - reference).abs().max() < TOLERANCE, way.__name__
        found["logps"] = float((got[0] - expected[0]).detach().abs().max())
        found["gradients"] = lab.assert_same_gradients(lab.gradients(model), gradients, tolerance=TOLERANCE)
    record(
        model_type=model.config.model_type,
        adapter=type(family).__name__,
        path=sharing_path(model),
        router_loss="computed" if has_router_loss else "-",
        **found,
    )


def test_greedy_tokens_equal_stock_generate_on_a_left_padded_batch(kits, kit, record):
    model = kit.model().eval()
    banned = family_of(model).image_token_ids(model.config)
    ends = {"eos_token_id": kit.processor.tokenizer.eos_token_id, "pad_token_id": kit.processor.tokenizer.pad_token_id}
    config = GenerationConfig(do_sample=False, max_new_tokens=6, **ends)
    expected = kits.stock_generate(kit.model().eval(), kit.case, kit.prompts, config=config, banned=banned)
    got = shared_generate(model, kit.prompts.batch, num_generations=2, generation_config=config)
    assert [group[0] for group in got] == expected
    assert [group[1] for group in got] == expected
    assert len({token for group in expected for token in group}) > 2
    record(greedy=True)


def test_the_dummy_image_goes_through_the_tower(kit):
    model = kit.model()
    family = family_of(model)
    inner = family.vision_language_model(model)
    features = family.encode(inner, [family.dummy_image(inner)])
    assert len(features.counts) == 1
    assert features.counts[0] <= 64
    assert torch.isfinite(features.rows).all()
    features.rows.sum().backward()
    assert any(p.grad is not None for p in family.vision_parameters(inner))

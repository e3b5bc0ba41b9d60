"""Every family's group-shared pass against its stock transformers forward, row by row: values and all gradients."""

import copy
from functools import partial

import pytest
from transformers import GenerationConfig
from triptych_trainer.forward import plain_logps, shared_generate, shared_logps
from triptych_trainer.models.families import family_of

TOLERANCE = 1e-5
FAMILIES = (
    "qwen3_vl",
    "qwen3_vl_moe",
    "qwen3_5",
    "glm4v",
    "internvl",
    "llava",
    "llava_pixtral",
    "mistral3",
    "llava_onevision",
    "gemma3",
    "smolvlm",
)
IMAGES = (2, 0, 1, 3)
LENGTHS = ((5, 3), (4, 1), (2, 9), (3, 6, 2))


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("way", [shared_logps, plain_logps])
def test_equals_the_stock_forward_of_every_row(lab, zoo, name, way):
    stock = zoo.build_model(name, lab).train()
    model = copy.deepcopy(stock)
    batch = zoo.build_batch(name, images=IMAGES, lengths=LENGTHS)
    expected = lab.stock_logps(stock, batch, inputs_of=partial(zoo.stock_image_inputs, name))
    lab.weighted_loss(*expected).backward()

    got = way(model, batch, compute_entropy=True)
    lab.weighted_loss(*got).backward()

    for value, reference in zip(got, expected, strict=True):
        assert (value - reference).abs().max() < TOLERANCE
    assert got[0].std() > 0.5
    lab.assert_same_gradients(lab.gradients(model), lab.gradients(stock), tolerance=TOLERANCE)


@pytest.mark.parametrize("name", FAMILIES)
def test_greedy_generation_follows_the_stock_forward(lab, zoo, name):
    model = zoo.build_model(name, lab).eval()
    batch = zoo.build_batch(name, images=IMAGES, lengths=((),) * 4)
    config = GenerationConfig(do_sample=False, max_new_tokens=6, pad_token_id=0, eos_token_id=7)
    greedy = shared_generate(model, batch, num_generations=2, generation_config=config)
    banned = family_of(model).image_token_ids(model.config)
    assert zoo.IMAGE in banned
    for p, group in enumerate(greedy):
        assert group[0] == group[1]
        ids = list(batch.prompts[p])
        inputs = partial(zoo.stock_image_inputs, name)
        for token in group[0]:
            best = lab.stock_next_token(model, batch, prompt=p, ids=ids, inputs_of=inputs, banned=banned)
            assert token == best
            ids.append(token)

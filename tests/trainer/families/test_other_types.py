"""The types of transformers without an adapter: each is refused by name, or exact with the generic adapter."""

import re
import warnings
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, PretrainedConfig
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
from triptych_parser import ImageSpan, Refusal
from triptych_trainer.forward import CheckedLogps, GroupBatch, encode_images, install_hooks
from triptych_trainer.forward.verify import SharingWarning
from triptych_trainer.models.families import FAMILIES, Family, UnknownFamilyError, family_of
from triptych_trainer.models.families.not_served import NOT_SERVED
from triptych_trainer.models.families.text import TextFamily
from triptych_trainer.upstream.transformers_names import is_at_least

IMAGE = 301
SMALL = {
    **dict.fromkeys(("hidden_size", "out_hidden_size", "text_hidden_size", "projector_hidden_size"), 32),
    **dict.fromkeys(("projection_dim", "projection_hidden_dim", "moe_intermediate_size", "share_expert_dim"), 32),
    **dict.fromkeys(("shared_intermediate_size", "image_size"), 32),
    **dict.fromkeys(("intermediate_size", "dense_intermediate_size"), 64),
    **dict.fromkeys(("sliding_window", "sliding_window_size"), 6),  # less than the images of a prompt
    **dict.fromkeys(("num_attention_heads", "num_key_value_heads", "num_sliding_attention_heads"), 2),
    **dict.fromkeys(("swa_num_attention_heads", "swa_num_key_value_heads"), 2),
    **dict.fromkeys(("num_hidden_layers", "depth", "num_experts_per_tok"), 2),
    **dict.fromkeys(("head_dim", "swa_head_dim"), 16),
    **dict.fromkeys(("num_local_experts", "n_routed_experts"), 4),
    "n_layers_per_attn_res_block": 1,
    "rotary_dim": 8,
    "vocab_size": 320,
    "unpadded_vocab_size": 310,
}
PATCHES = {
    # how the processor of each type hands one image over, and settings that follow from the small sizes
    "lfm3_vl": (
        lambda v: (16, 6 * v.patch_size**2),
        (1, 4, 4),
        {
            "text_config.layer_types": ["conv", "full_attention", "sliding_attention"],
            "text_config.num_hidden_layers": 3,
        },
    ),
    "minimax_m3_vl": (
        lambda v: (16, 3 * v.temporal_patch_size * v.patch_size**2),
        (1, 4, 4),
        {"merged_hidden_size": 128, "text_config.mlp_layer_types": ["dense", "sparse"]},
    ),
    "muse_glimmer": (
        lambda v: (16, 3 * v.patch_temporal * v.patch_size**2),
        (1, 4, 4),
        {"out_hidden_size": 128, "text_config.layer_types": ["full_attention", "sliding_attention"]},
    ),
    "muse_spark": (lambda v: (16, 3 * v.patch_temporal * v.patch_size**2), (1, 4, 4), {"out_hidden_size": 128}),
    "step3p7": (
        lambda v: (1, 3, 32, 32),
        None,
        {
            "text_config.sliding_window": 6,
            "text_config.num_sliding_attention_heads": 2,
            "text_config.layer_types": ["full_attention", "sliding_attention"],
            "text_config.mlp_layer_types": ["dense", "sparse"],
            "text_config.rope_parameters": {
                kind: {"rope_type": "default", "rope_theta": 1e4} for kind in ("full_attention", "sliding_attention")
            },
        },
    ),
    "inkling2": (
        lambda v: (4, 40, 40, 3),
        (1, 2, 2),
        {"text_config.layer_types": ["hybrid", "hybrid_sliding"]},
    ),
    "inkling2_loop": (
        lambda v: (4, 40, 40, 3),
        (1, 2, 2),
        {"text_config.loop_layer_index_start": 1, "text_config.loop_layer_index_end": 2},
    ),
    "inkling_mm_model": (
        lambda v: (3, v.temporal_patch_size, v.patch_size, v.patch_size, 3),
        None,
        {"text_config.layer_types": ["hybrid", "hybrid_sliding"]},
    ),
    "video_llava": (lambda v: (1, 3, 32, 32), None, {}),
}
REFUSED_BELOW_5_18 = {
    "minimax_m3_vl": "expected features of 1 images or of their 16 tiles, and the vision tower returned 4 entries",
    "video_llava": "its get_image_features takes no pixel_values",
}
"""Types whose code in transformers 5.17 is of another shape, and what Triptych says there; 5.23 is right."""
NAMES = {
    "inkling2": "Inkling 2: experts",
    "inkling2_loop": "Inkling 2 with layers that run several times: experts",
    "inkling_mm_model": "Inkling: experts",
    "lfm3_vl": "LFM3-VL: convolutions over tokens",
    "minimax_m3_vl": "MiniMax-M3: experts; refused with layers of sparse attention, which its models have",
    "muse_glimmer": "Muse Glimmer",
    "muse_spark": "Muse Spark: experts",
    "step3p7": "Step 3.7: experts, sliding layers; images of one view",
    "video_llava": "Video-LLaVA, for images",
}
OTHERS = sorted(set(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES) - {t for f in FAMILIES for t in f.model_types})


def shrink(config):
    parts = [part for part in vars(config).values() if isinstance(part, PretrainedConfig)]
    for part in parts:
        shrink(part)
    for name, size in SMALL.items():
        if type(value := getattr(config, name, None)) is int and value > size:
            setattr(config, name, size)
    for name in ("layer_types", "mlp_layer_types"):
        if isinstance(types := getattr(config, name, None), list):
            setattr(config, name, types[:2])
    for name in vars(config):
        if name.endswith(("_token_id", "_token_index")) and isinstance(getattr(config, name), int):
            setattr(config, name, IMAGE if name.startswith("image_token") else 302)


def built(model_type, settings):
    config = CONFIG_MAPPING[model_type]()
    shrink(config)
    for name, value in settings.items():
        part, _, last = name.rpartition(".")
        setattr(getattr(config, part) if part else config, last, value)
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.numel() > 1 and bool((parameter == parameter.flatten()[0]).all()):
                parameter.add_(0.1 * torch.randn(parameter.shape))
            if parameter.dim() >= 2:
                parameter.mul_(5.0)
    return model


@pytest.mark.parametrize("model_type", PATCHES)
def test_the_generic_adapter_is_exact(model_type):
    if model_type not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES:
        pytest.skip(f"{model_type} needs a later transformers")
    shape_of, grid, settings = PATCHES[model_type]
    model = built(model_type, settings)
    shape = shape_of(model.config.vision_config)
    images = [{"pixel_values": torch.randn(shape)} for _ in range(2)]
    if grid is not None:
        images = [{**image, "image_grid_thw": torch.tensor([grid])} for image in images]
    if model_type in REFUSED_BELOW_5_18 and not is_at_least(5, 18):
        with pytest.raises(Refusal, match=REFUSED_BELOW_5_18[model_type]):
            encode_images(model, images[:1])
        return
    assert type(family_of(model)) is Family
    first, second = (encode_images(model, [image]).counts[0] for image in images)
    ids = [5, 6, *[IMAGE] * first, 7, 8, 9, *[IMAGE] * second, 10, 11]
    spans = [
        ImageSpan(start=start, length=count, image=k, runs=((start, count),))
        for k, (start, count) in enumerate(((2, first), (5 + first, second)))
    ]
    completions = [[12, 13, 14, 15], [16, 17]]
    batch = GroupBatch.build([ids], spans=[spans], images=images, completions=[completions])
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", SharingWarning)  # where the prompt cannot be shared, the plain pass is taken
        ours, _ = CheckedLogps()(model, batch)

    def stock(completion, pixels):
        inputs = {name: torch.cat([image[name] for image in images]) for name in images[0]}
        inputs["pixel_values"] = pixels(inputs["pixel_values"])
        row = torch.tensor([ids + completion])
        with torch.no_grad():
            logits = model(input_ids=row, attention_mask=torch.ones_like(row), **inputs).logits[0]
        logps = logits[len(ids) - 1 : -1].log_softmax(-1)
        return logps.gather(-1, torch.tensor(completion)[:, None])[:, 0]

    for row, completion in enumerate(completions):
        expected = stock(completion, lambda pixels: pixels)
        assert (ours[row, : len(completion)] - expected).abs().max() < 1e-5
    assert (stock(completions[0], torch.randn_like) - stock(completions[0], lambda pixels: pixels)).abs().max() > 1e-3


@pytest.mark.parametrize("model_type", sorted(NOT_SERVED))
def test_a_type_that_is_not_served_is_refused_by_name(model_type):
    model = SimpleNamespace(config=SimpleNamespace(model_type=model_type))
    with pytest.raises(UnknownFamilyError, match=f"^model type '{model_type}' is not served: {NOT_SERVED[model_type]}"):
        family_of(model)


@pytest.mark.skipif(not is_at_least(5, 18), reason="its code has another shape before")
def test_attention_that_selects_blocks_of_keys_is_refused():
    """Pads moved the blocks, so that rows beyond what a token may select got other log-probabilities, by up to 0.8."""
    _, _, settings = PATCHES["minimax_m3_vl"]
    sparse = {"text_config.layer_types": ["full_attention", "minimax_m3_sparse"], "text_config.index_n_heads": 2}
    with pytest.raises(UnknownFamilyError, match=r"selects keys with pads among them \(MiniMaxM3VLIndexer\)"):
        family_of(built("minimax_m3_vl", {**settings, **sparse}))


@pytest.mark.parametrize("model_type", ["deepseek_v32", "glm_moe_dsa"])
def test_a_text_model_that_selects_keys_is_refused(model_type):
    """In a batch its shorter rows had log-probabilities that were wrong by up to 1.2."""
    if model_type not in CONFIG_MAPPING:
        pytest.skip(f"{model_type} needs a later transformers")
    few = {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1, "num_hidden_layers": 1}
    sizes = dict.fromkeys(("hidden_size", "intermediate_size", "moe_intermediate_size", "vocab_size"), 32)
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "index_n_heads": 2, "index_topk": 8}
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[model_type](**few, **sizes, **heads, pad_token_id=0))
    with pytest.raises(
        UnknownFamilyError, match=rf"'{model_type}' is not served: its attention selects keys .*Indexer"
    ):
        install_hooks(model)


def verdict_of(model_type):
    """What becomes of a type: by the comparison above, by its name, or by the structure of a model without weights."""
    if model_type in PATCHES:
        below = "; refused with transformers 5.17" if model_type in REFUSED_BELOW_5_18 else ""
        return "exact, generic adapter", NAMES[model_type] + below
    if model_type in NOT_SERVED:
        return "refused", NOT_SERVED[model_type]
    config = CONFIG_MAPPING[model_type]()
    shrink(config)
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    try:
        family = family_of(model)
    except UnknownFamilyError as error:
        reason = re.search("does not serve it: (.*?); known types", str(error))[1]
        return "refused", re.sub(r"(\w+[._]\w+)", r"`\1`", reason)
    assert type(family) is TextFamily, f"{model_type} is neither compared here nor refused: write it into NOT_SERVED"
    return "text model", "it has no part for images"


@pytest.mark.slow  # builds 27 classes
@pytest.mark.skipif(not is_at_least(5, 23), reason="the table is that of transformers 5.23 and later")
def test_the_table_of_other_types_has_the_verdict_of_each(kits, pytestconfig):
    found = {model_type: verdict_of(model_type) for model_type in OTHERS}
    found |= {model_type: verdict_of(model_type) for model_type in {*NOT_SERVED, *PATCHES}}
    if pytestconfig.getoption("write_families", False):
        kits.write_verdicts(found)
    stated = kits.stated_verdicts()
    assert {model_type: stated.get(model_type) for model_type in found} == found, "run make families"


def test_every_type_has_a_row_in_the_table_of_other_types(kits):
    stated = kits.stated_verdicts()
    assert {*OTHERS, *NOT_SERVED, *PATCHES} <= stated.keys(), "run make families"
    assert list(stated) == sorted(stated)

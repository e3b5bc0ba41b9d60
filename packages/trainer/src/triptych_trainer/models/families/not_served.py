"""Model types of transformers that are refused by name, and why; an adapter of the user's own goes before."""

_CODEBOOK = "its images are tokens of a codebook, and no features"
_DEEPSTACK = "features of its images are added inside its text backbone, and no adapter does so"
_VIEWS = "its processor cuts an image into views in a layout of their own, and no adapter knows it"
_NOT_COMPARED = "it has not been compared with its own forward"

NOT_SERVED: dict[str, str] = {
    "apertus1p5": _CODEBOOK,
    "chameleon": _CODEBOOK,
    "emu3": _CODEBOOK,
    "diffusion_gemma": "it denoises blocks of tokens, and does not sample one token after the other",
    "granite4_vision": _DEEPSTACK,
    "granite_docling": _DEEPSTACK,
    "deepseek_ocr2": _VIEWS,
    "unlimited_ocr": _VIEWS,
    "perception_lm": "its processor makes no tensor of images that are cut into different numbers of tiles",
    "fast_vlm": _NOT_COMPARED,
    "dots3_note": _NOT_COMPARED,
    "hunyuan_vl": "its positions follow from the sizes of its images, in four directions, and no adapter counts them",
    "evolla": "it takes proteins, and no images",
    "fuyu": "its image features are patches of pixels without a tower, and no adapter reads them",
    "mistral_large4": _NOT_COMPARED,
    "got_ocr2": _NOT_COMPARED,
    "pp_chart2table": _NOT_COMPARED,
    "janus": "its own generate ignores which tokens must not be sampled",
}
"""Types that would get the generic adapter, which is not right for them or was not compared with them."""

"""What a worker of vLLM learns, so that it takes weights from a folder: ``vllm serve --worker-extension-cls``.

vLLM's own weight transfer needs GPUs, and its ``reload_weights`` drops the images that the server keeps. This module is
imported inside vLLM, so it imports nothing else of Triptych.
"""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

__all__ = ["LoadsWeights", "tensors_in"]


def tensors_in(folder: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield names and tensors of all ``.safetensors`` files of a folder."""
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118  a file is no mapping
                yield name, file.get_tensor(name)


class LoadsWeights:
    """Adds to vLLM's worker class, which has ``model_runner``, ``model_config`` and ``vllm_config``, what loads
    weights.
    """

    def load_triptych_weights(self: Any, folder: str) -> dict[str, list[str]]:
        """Load every weight of the model from a folder, layer by layer, as they were loaded first.

        Caches are left alone: who sends the weights knows which of them contain something old. The answer names the
        parameters of the served model that the folder had no weight for, and the folder of the weights before. A folder
        that this process does not see changes nothing; the answer names it.
        """
        before = self.triptych_weights()
        if not Path(folder).is_dir():
            return {"missing": [], "before": before, "unseen": [folder]}
        self._triptych_weights = "half of those of another folder"
        config = import_module("vllm.config")
        reload = import_module("vllm.model_executor.model_loader.reload")
        model = self.model_runner.get_model()
        names = {name for name, _ in model.named_parameters()}
        with config.set_current_vllm_config(self.vllm_config):
            reload.initialize_layerwise_reload(model)
            loaded = model.load_weights(tensors_in(Path(folder)))
            reload.finalize_layerwise_reload(model, self.model_config)
            _pack_tied_weights_again(model)
        self._triptych_weights = folder
        return {"missing": sorted(names - set(loaded or ())), "before": before, "unseen": []}

    def triptych_weights(self: Any) -> list[str]:
        """Return the folder that the weights came from, or nothing before any was loaded."""
        return [folder for folder in [getattr(self, "_triptych_weights", None)] if folder]


def _pack_tied_weights_again(model: torch.nn.Module) -> None:
    """On a CPU, layers compute with packed copies of their weights; a head that is tied to the embeddings is not loaded
    itself, and would go on with the copy of the old ones.
    """
    for layer in model.modules():
        if hasattr(layer, "cpu_linear") and layer.weight.numel() > 0:
            layer.quant_method.process_weights_after_loading(layer)

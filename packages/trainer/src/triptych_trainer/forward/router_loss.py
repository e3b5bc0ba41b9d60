"""The load-balancing loss of models with experts, as on replicated rows, from passes that share prompts.

    loss = E * sum_e  (share of the choices that fell on expert e) * (mean probability of expert e)

The shares and means are over every token of every replicated row: a token of a prompt counts once for each of the
prompt's completions, a completion's last token counts although nothing is predicted from it, and pads do not count. A
shared pass computes each token once, so that a token's weight is the number of rows that would have it. transformers'
own function takes such weights, because it only multiplies by its mask.

Source: Fedus et al., Switch Transformers (2101.03961), equations 4 to 6; `load_balancing_loss_func` of transformers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch

from triptych_trainer.errors import IncompatibleVersionError
from triptych_trainer.upstream.transformers_names import load_balancing_loss_func, router_recorder


class RouterTap:
    """Collects what the routers of a text backbone say during the calls of one pass, and the weight of every token."""

    def __init__(self, text: torch.nn.Module) -> None:
        """Find the routers of `text`.

        Raises:
            IncompatibleVersionError: the model does not say which of its modules they are.
        """
        self._config = text.config
        self._routers = find_routers(text)
        if not self._routers:
            raise IncompatibleVersionError(
                f"{type(text).__name__} does not say where its routers are, so that its load-balancing loss cannot be "
                "computed; set --router_aux_loss_coef 0"
            )
        self._logits: list[list[torch.Tensor]] = [[] for _ in self._routers]
        self._weights: list[torch.Tensor] = []

    @contextmanager
    def recording(self, weights: torch.Tensor) -> Iterator[None]:
        """Record the calls of the routers inside; `weights` `[B, T]` says how many rows have each token of the call."""
        handles = [
            module.register_forward_hook(_append(logits, index))
            for (module, index), logits in zip(self._routers, self._logits, strict=True)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
        self._weights.append(weights.reshape(-1).float())

    def loss(self) -> torch.Tensor:
        """Return the loss over everything recorded."""
        gates = tuple(torch.cat([part.reshape(-1, part.shape[-1]) for part in layer]) for layer in self._logits)
        weights = torch.cat(self._weights).to(gates[0].device)
        top_k = self._config.num_experts_per_tok
        return load_balancing_loss_func(gates, gates[0].shape[-1], top_k, weights)


def recording(router: RouterTap | None, weights: torch.Tensor) -> AbstractContextManager[None]:
    """Record with `router`, where there is one."""
    return nullcontext() if router is None else router.recording(weights)


def find_routers(text: torch.nn.Module) -> list[tuple[torch.nn.Module, int]]:
    """Return the modules of a text backbone that give router logits, in order, and where in their output the logits
    are.
    """
    recorder = router_recorder(text)
    if recorder is None:
        return []
    return [
        (module, recorder.index)
        for name, module in text.named_modules()
        if isinstance(module, recorder.target_class) and (recorder.layer_name is None or recorder.layer_name in name)
    ]


def _append(logits: list[torch.Tensor], index: int) -> Any:
    def hook(module: torch.nn.Module, args: Any, output: Any) -> None:
        logits.append(output[index] if isinstance(output, tuple) else output)

    return hook

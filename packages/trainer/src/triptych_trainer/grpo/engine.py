"""The passes of a GRPO step over prompt groups, with image features kept for as long as they are valid."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import GenerationConfig

from triptych_trainer.forward import (
    CheckedLogps,
    GroupBatch,
    ImageFeatures,
    encode_images,
    install_hooks,
    plain_logps,
    shared_generate,
    shared_logps,
    sliced_logps,
)
from triptych_trainer.forward.encode import checkpointed_tower, tower_is_trainable
from triptych_trainer.forward.kept_attention import keeping_attention
from triptych_trainer.forward.prefill import OnPrefill
from triptych_trainer.forward.router_loss import RouterTap
from triptych_trainer.forward.sharded import is_sharded
from triptych_trainer.forward.turn_cache import TurnCache
from triptych_trainer.grpo.batch import TokenScores
from triptych_trainer.grpo.prompts_once import PromptsOnce
from triptych_trainer.grpo.weights_seen import WeightsSeen
from triptych_trainer.models.families import family_of
from triptych_trainer.models.unwrap import unwrap

__all__ = ["GroupEngine"]


class GroupEngine:
    """Generates for prompt groups and scores them; each image is encoded once per generation where that is exact.

    A pass takes features that were computed before if it would compute the same numbers. With a frozen tower these are
    all passes. With a tower that learns they are the passes without gradient, until the weights change; and if a
    generation is trained on in one pass, before the weights change, that pass takes the features with their graph.
    Images are distinguished by the batch's own `image_keys`, or, if it has none, by the rows that `keys` name and
    their numbers in them.
    """

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        share_prompts: bool = True,
        completions_per_slice: int | None = None,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
        verify: bool = True,
        fused_lm_head: bool | None = None,
        router_loss: bool = False,
        later_images: bool = False,
        trains_once: bool = False,
        checkpoints_tower: bool = False,
        keeps_prompts: bool = False,
    ) -> None:
        """Score at ``temperature``; without ``share_prompts`` rows are replicated as other trainers do.

        With ``completions_per_slice`` a batch of more completions is scored and back-propagated so many at a time.
        Every scoring pass runs under ``autocast``. ``verify=False`` leaves out the comparison at first use, for
        forecasts that compute no numbers.
        ``fused_lm_head`` is by default on where the model is on CUDA. With ``router_loss`` policy passes also compute
        the load-balancing loss of a model with experts. ``later_images`` says that images may arrive in completions.
        With ``trains_once`` each generation is trained on in one pass, before the weights move;
        ``checkpoints_tower`` says whether the tower's graph is then made with gradient checkpointing, and
        ``keeps_prompts`` whether that pass goes on from the prompts that generation has forwarded.
        """
        self.temperature = temperature
        self.share_prompts = share_prompts
        self.completions_per_slice = completions_per_slice
        self.autocast = autocast
        self.verify = verify
        self.fused_lm_head = fused_lm_head
        self.router_loss = router_loss
        self.trains_once = trains_once
        self.checkpoints_tower = checkpoints_tower
        self.images_encoded = 0
        """Images that went through a vision tower outside a policy pass."""
        self.turns = TurnCache()
        """What is kept of rollouts between their turns, and how many tokens they prefilled."""
        self.prompts = PromptsOnce(enabled=keeps_prompts, verify=verify)
        self.at_prefill: OnPrefill | None = None
        """Called once: with the prefilled prompts of the next generation, before anything is sampled."""
        self._kept: dict[Hashable, ImageFeatures] = {}
        self._weights: WeightsSeen | None = None  # with which images and prompts were forwarded with a graph
        self._shared_logps = CheckedLogps()
        self._shared_logps.expects_completion_images = later_images

    def forget(self) -> None:
        """Drop all features, because the weights have moved or other prompts follow."""
        self._kept.clear()
        self._weights = None
        self.prompts.forget()

    def generate(
        self,
        model: torch.nn.Module,
        batch: GroupBatch,
        *,
        keys: Sequence[int],
        group_sizes: Sequence[int],
        generation_config: GenerationConfig,
        keep_turns: bool = False,
    ) -> list[list[list[int]]]:
        """Sample ``group_sizes[p]`` completions for prompt p; returns [P][G_p] lists of token ids.

        With ``keep_turns`` prompts may go on from rollouts of the call before; then only what is new is prefilled.
        """
        self.prompts.forget()
        at_prefill, self.at_prefill = self.at_prefill, None
        features = self.features(model, batch, keys=keys, with_graph=self.trains_once and unwrap(model).training)
        # features that an earlier pass without gradient has left would cut the tower off the prompts' graph
        is_cut = features is not None and not features.rows.requires_grad and _learns_tower(model)
        self._weights = WeightsSeen.of(unwrap(model)) if self.trains_once and unwrap(model).training else None
        return shared_generate(
            model,
            batch,
            num_generations=group_sizes,
            generation_config=generation_config,
            features=features,
            turns=self.turns if keep_turns else None,
            keep_prompts=None if keep_turns or is_cut else self.prompts.keeper(model, keys=keys),
            on_prefill=None if at_prefill is None else partial(at_prefill, model, batch),
        )

    def logps(
        self,
        model: torch.nn.Module,
        batch: GroupBatch,
        *,
        keys: Sequence[int],
        compute_entropy: bool = False,
        compute_router_loss: bool = False,
    ) -> TokenScores:
        """Score every completion token of a batch; with gradient where it is enabled."""
        router = _router_tap(model) if compute_router_loss else None
        with self.autocast(), keeping_attention(unwrap(model)):
            logps_BC, entropies_BC = self._logps(
                model, batch, keys=keys, compute_entropy=compute_entropy, router=router
            )
        aux_loss = None if router is None else router.loss()
        return TokenScores(logps_BC=logps_BC, entropies_BC=entropies_BC, aux_loss=aux_loss)

    def _logps(
        self,
        model: torch.nn.Module,
        batch: GroupBatch,
        *,
        keys: Sequence[int],
        compute_entropy: bool,
        router: RouterTap | None,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        base = unwrap(model)
        install_hooks(base)
        if torch.is_grad_enabled() and self._weights is not None:
            if self._weights.says_changed(base):
                self.forget()
            self._weights = None
        take = self._with_graph if torch.is_grad_enabled() and _learns_tower(base) else self.features
        features = take(model, batch, keys=keys)
        found = self._continued(model, batch, keys=keys, router=router, compute_entropy=compute_entropy)
        if found is not None:
            return found
        given: dict[str, Any] = {"temperature": self.temperature, "features": features}
        if not self.share_prompts:
            return plain_logps(
                model, batch, **given, compute_entropy=compute_entropy, router=router, whole_logits=False
            )
        # With turns even a few completions are sliced: ranks can have different numbers of them, and verify together.
        least = 0 if self._shared_logps.expects_completion_images else self.completions_per_slice or 0
        rows_per_slice = self.completions_per_slice if batch.num_completions > least else None
        fused = next(base.parameters()).device.type == "cuda" if self.fused_lm_head is None else self.fused_lm_head
        if not self.verify and rows_per_slice is not None:
            return sliced_logps(model, batch, rows_per_slice=rows_per_slice, **given, autocast=self.autocast)
        if not self.verify:
            return shared_logps(
                model, batch, **given, compute_entropy=compute_entropy, fused_lm_head=fused, router=router
            )
        return self._shared_logps(
            model,
            batch,
            known_features=lambda: self.features(model, batch, keys=keys),
            rows_per_slice=rows_per_slice,
            autocast=self.autocast,
            **given,
            compute_entropy=compute_entropy,
            fused_lm_head=fused,
            router=router,
        )

    def _continued(
        self, model: Any, batch: GroupBatch, *, keys: Sequence[int], router: RouterTap | None, compute_entropy: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None] | None:
        """The scores of a policy pass that goes on from what generation has forwarded; None where it cannot."""
        if router is not None or not torch.is_grad_enabled():
            return None
        return self.prompts.logps(
            model,
            batch,
            keys=keys,
            known_features=lambda: self.features(model, batch, keys=keys),
            temperature=self.temperature,
            compute_entropy=compute_entropy,
        )

    def encode_ahead(self, model: torch.nn.Module, batch: GroupBatch, *, keys: Sequence[int]) -> None:
        """Encode all images of a batch in one call where the policy passes will use the features: a frozen tower."""
        install_hooks(model)
        if not _learns_tower(model):
            self.features(model, batch, keys=keys)

    def kept_tensors(self) -> list[torch.Tensor]:
        """Return the features that are kept now."""
        return [rows for kept in self._kept.values() for rows in (kept.rows, *kept.deepstack)]

    def features(
        self, model: torch.nn.Module, batch: GroupBatch, *, keys: Sequence[int], with_graph: bool = False
    ) -> ImageFeatures | None:
        """Return the features of the batch's images: those that are kept, and the missing ones encoded now in one call.

        With ``with_graph`` a tower that learns runs as in a policy pass, which takes what is kept of it.
        None while the weights are sharded: every pass then encodes inside the model's own call.
        """
        if is_sharded(unwrap(model)):
            return None
        wanted = _names(model, batch, keys=keys)
        missing = [name for name in wanted if name not in self._kept]
        if missing:
            with self._encoding(model, with_graph=with_graph and _learns_tower(model)):
                encoded = encode_images(model, [batch.images[wanted[name]] for name in missing])
                assert encoded is not None
                self._kept.update({name: encoded.select([k]) for k, name in enumerate(missing)})
            self.images_encoded += len(missing)
        with torch.set_grad_enabled(with_graph or torch.is_grad_enabled()):  # joining several would cut the graph off
            return _join(self._kept, wanted)

    def _with_graph(self, model: torch.nn.Module, batch: GroupBatch, *, keys: Sequence[int]) -> ImageFeatures | None:
        """The features of a batch's images with the graph that generation kept, else None; no graph is kept then."""
        wanted = _names(model, batch, keys=keys)
        has_graph = all(name in self._kept and self._kept[name].rows.requires_grad for name in wanted)
        found = _join(self._kept, wanted) if has_graph else None
        self._kept = {name: features.detach() for name, features in self._kept.items()}
        return found

    def _encoding(self, model: torch.nn.Module, *, with_graph: bool) -> AbstractContextManager[Any]:
        """The tower runs in the run's precision, which a model's own call brings and generation around it does not;
        with a graph it runs as in a policy pass, with its checkpointing.
        """
        base = unwrap(model)
        family = family_of(base)
        with ExitStack() as entered:
            entered.enter_context(torch.set_grad_enabled(with_graph))
            entered.enter_context(self.autocast())
            if with_graph and self.checkpoints_tower:
                entered.enter_context(checkpointed_tower(family, family.vision_language_model(base)))
            return entered.pop_all()


def _router_tap(model: torch.nn.Module) -> RouterTap:
    base = unwrap(model)
    family = family_of(base)
    return RouterTap(family.language_model(family.vision_language_model(base)))


def _adapter_state(model: torch.nn.Module) -> tuple[Any, ...]:
    """Which adapters are active: the same weights give other features with an adapter on the tower switched off."""
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            return (module.disable_adapters, tuple(module.active_adapters))
    return ()


def _learns_tower(model: torch.nn.Module) -> bool:
    base = unwrap(model)
    family = family_of(base)
    return tower_is_trainable(family, family.vision_language_model(base))


def _names(model: torch.nn.Module, batch: GroupBatch, *, keys: Sequence[int]) -> dict[Hashable, int]:
    """Each image by the model and by its content, or by its row, and its place in the batch."""
    base = unwrap(model)
    state = (id(base), _adapter_state(base))
    if batch.image_keys:
        return {(*state, key): index for index, key in enumerate(batch.image_keys)}
    rows = zip(keys, batch.image_indices, strict=True)
    return {(*state, key, number): index for key, indices in rows for number, index in enumerate(indices)}


def _join(kept: Mapping[Hashable, ImageFeatures], wanted: Mapping[Hashable, int]) -> ImageFeatures | None:
    """The features of a batch's images in its order; None where it has none."""
    by_index = {index: kept[name] for name, index in wanted.items()}
    return ImageFeatures.join([by_index[index] for index in range(len(by_index))]) if by_index else None

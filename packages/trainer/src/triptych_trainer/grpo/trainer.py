"""GRPO on prompts that hold several images: TRL's trainer with the seams that images change."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers.integrations import is_deepspeed_zero3_enabled
from trl import GRPOConfig
from trl.extras.profiling import profiling_context
from trl.models.utils import unwrap_model_for_generation

from triptych_trainer.checkpoints.resume import ResumableGRPOTrainer
from triptych_trainer.forward import prepare, unwrap
from triptych_trainer.grpo.engine import GroupEngine
from triptych_trainer.grpo.groups import RowGroups, check_groups_on_ranks, group_order, split_batch
from triptych_trainer.grpo.trl_seams import check_seams
from triptych_trainer.grpo.vllm import request, vllm_rollouts
from triptych_trainer.models.families import family_of
from triptych_trainer.models.learning_rates import set_vision_learning_rate
from triptych_trainer.monitor.seen_images import SeenImages
from triptych_trainer.monitor.trackers import ImageLog, number_images, wants_images
from triptych_trainer.options.refusals import (
    check_head_dtype,
    check_num_prompts,
    check_options,
    check_router_loss,
    check_slices,
)
from triptych_trainer.prompts.image_info import image_infos
from triptych_trainer.prompts.prepare import PreparedPrompt, PromptPreparer
from triptych_trainer.prompts.table import ExampleTable

__all__ = ["MultiImageGRPOTrainer"]


class MultiImageGRPOTrainer(ResumableGRPOTrainer):
    """TRL's GRPO trainer in which every prompt, with its images, is paid for once for all of its completions.

    Rows carry the number of their example; the images are decoded ahead by the preparer's loader, preprocessed once,
    encoded once per pass, and merged at their spans. Losses, rewards and logging are TRL's own.
    """

    def __init__(
        self,
        model: Any,
        reward_funcs: Sequence[Callable[..., Any]],
        *,
        args: GRPOConfig,
        table: ExampleTable,
        num_train: int,
        preparer: PromptPreparer,
        group_sharing: str = "auto",
        completions_per_slice: int | None = None,
        vision_learning_rate: float | None = None,
        on_rollouts: Callable[[dict[str, Any]], object] | None = None,
        **kwargs: Any,
    ) -> None:
        """Train on the first ``num_train`` examples of ``table``; any later ones are for evaluation.

        Args:
            preparer: turns examples into token ids, spans and image inputs.
            group_sharing: ``auto`` forwards each prompt once for its completions where that is exact; ``off`` never.
            completions_per_slice: score and back-propagate at most so many completions at a time; not with sharded
                weights.
            vision_learning_rate: learning rate of the parameters outside the language model; None: that of ``args``.
            on_rollouts: called once per generation with its rows, completions, rewards and advantages.
            kwargs: passed to ``GRPOTrainer``.

        Raises:
            SeamError: the installed TRL differs from the tested one.
            UsageError: an option that this trainer replaces by its own.
            GroupSplitError: a prompt's completions would be spread over ranks.
        """
        check_seams()
        check_options(args, kwargs)
        check_head_dtype(args, model)
        self.table = table
        self.preparer = preparer
        self.on_rollouts = on_rollouts
        self.vision_learning_rate = vision_learning_rate
        self.images_seen = 0
        """Unique images of the prompts trained on so far, on all ranks."""
        self._rows: list[int] = []
        self._scored: dict[str, Any] = {}
        self._buffered_inputs: list[dict[str, Any]] | None = None
        table.on_fetch = preparer.prefetch
        super().__init__(
            model,
            list(reward_funcs),
            args=args,
            train_dataset=table.dataset(range(num_train)),
            eval_dataset=table.dataset(range(num_train, len(table))) if len(table) > num_train else None,
            processing_class=preparer.processor,
            **kwargs,
        )
        check_router_loss(
            enabled=self.aux_loss_enabled,
            coefficient=self.router_aux_loss_coef,
            model_name=type(self.accelerator.unwrap_model(self.model)).__name__,
        )
        check_groups_on_ranks(
            per_device=args.per_device_train_batch_size,
            steps_per_generation=args.steps_per_generation,
            num_generations=args.num_generations,
            num_ranks=args.world_size,
        )
        sharded = self.is_fsdp_enabled or (self.is_deepspeed_enabled and is_deepspeed_zero3_enabled())
        check_slices(args, completions_per_slice, shared=group_sharing != "off", sharded=sharded)
        self.engine = GroupEngine(
            temperature=args.temperature,
            share_prompts=group_sharing != "off",
            completions_per_slice=completions_per_slice,
            autocast=self.accelerator.autocast,
        )
        for part in (self.model, self.ref_model):
            if part is not None:
                prepare(self.accelerator.unwrap_model(part))
        self._show_images()

    def _show_images(self) -> None:
        """Where completions are logged to a tracker, let it have the images as well."""
        self.seen_images: SeenImages | None = None
        if not wants_images(self.args):
            return
        self.seen_images = SeenImages(
            Path(self.args.output_dir) / "completions" / "images",
            loader=self.preparer.loader,
            rank=self.accelerator.process_index,
            keep=self.args.generation_batch_size,
        )
        self.add_callback(ImageLog(self._logs, self.seen_images.rows, callbacks=self.callback_handler.callbacks))

    def get_train_dataloader(self) -> Any:
        """As TRL's; data that does not fill one generation is refused instead of training no step."""
        check_num_prompts(len(self.train_dataset), self.args)
        return super().get_train_dataloader()

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """As transformers', with groups of their own for the vision tower where it has its own learning rate."""
        fresh = self.optimizer is None
        optimizer = super().create_optimizer(model)
        if fresh and self.vision_learning_rate is not None:
            set_vision_learning_rate(optimizer, self.model if model is None else model, self.vision_learning_rate)
        return optimizer

    def _prepare_inputs(self, generation_batch: Any) -> Any:
        """As TRL's, but micro-batches hold whole groups: groups are shuffled as units."""
        if not self.model.training:
            return self._generate_and_score_completions(generation_batch)
        every = self.args.steps_per_generation * self.num_iterations
        if self._step % every == 0 or self._buffered_inputs is None:
            batch = self._generate_and_score_completions(generation_batch)
            rows = batch["example"].tolist()
            order = group_order(rows, torch.randperm(len(rows)).tolist())
            self._buffered_inputs = split_batch(batch, order=order, num_chunks=self.args.steps_per_generation)
        return self._buffered_inputs[self._step % self.args.steps_per_generation]

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._rows = [row["example"] for row in inputs]
        self.generation_rows = self._rows if self.model.training else []
        self.engine.forget()
        if self.model.training:  # as TRL counts tokens
            num_images = sum(len(self.table.examples[row].images) for row in set(self._rows))
            total = self.accelerator.reduce(torch.tensor(num_images, device=self.accelerator.device), "sum")
            self.images_seen += int(total)
        output = super()._generate_and_score_completions(inputs)
        output["example"] = torch.tensor(self._rows)
        if self.log_completions:
            number_images(self._logs, num_rows=len(self._rows) * self.accelerator.num_processes)
        if self.seen_images is not None:
            images = self.seen_images.gather(self._prepared(self._rows))
            if "trackio" in self.args.report_to:  # TRL's table shows several images in a cell there
                self._logs["images"].extend(images)
        if self.on_rollouts is not None:
            self.on_rollouts({**self._scored, "advantages": output["advantages"].tolist(), "rows": inputs})
        return output

    def on_cycle_restored(self) -> None:
        """Encode the images of the cycle under way as its generation did, in one call: the same numbers, to the bit."""
        groups = RowGroups.of(self.generation_rows)
        batch = groups.batch(self._prepared(groups.keys))
        self.engine.encode_ahead(self.model_wrapped, batch, keys=groups.keys)

    def _tokenize_prompts(self, prompts: list) -> tuple[list[list[int]], None, dict[str, Any]]:
        return [prepared.ids for prepared in self._prepared(self._rows)], None, {}

    def _generate_single_turn(
        self,
        prompt_ids: Any,
        images: Any,
        multimodal_fields: Any,
        num_generations: int,
        has_tool_images: bool = False,
    ) -> tuple[list[list[int]], list[list[float | None]] | None]:
        groups = RowGroups.of(self._rows)
        if self.use_vllm:
            return self._generate_by_vllm(groups)
        batch = groups.batch(self._prepared(groups.keys))
        with (
            profiling_context(self, "transformers.generate"),
            unwrap_model_for_generation(
                self.model_wrapped,
                self.accelerator,
                gather_deepspeed3_params=self.args.ds3_gather_for_generation,
                generation_kwargs=self.generation_kwargs,
                gradient_checkpointing_kwargs=self.args.gradient_checkpointing_kwargs,
            ) as model,
            torch.no_grad(),
            self._dist.summon_full_params(self.model_wrapped, recurse=False),
        ):
            completions = self.engine.generate(
                model,
                batch,
                keys=groups.keys,
                group_sizes=[len(members) for members in groups.members],
                generation_config=self.generation_config,
            )
        return groups.list_to_rows([ids for group in completions for ids in group]), None

    def _generate_by_vllm(self, groups: RowGroups) -> tuple[list[list[int]], list[list[float | None]]]:
        if self.state.global_step != self._last_loaded_step:  # type: ignore[has-type]
            with profiling_context(self, "sync_weights"):
                self.vllm_generation.sync_weights()
            self._last_loaded_step = self.state.global_step
        pairs = zip(self._prepared(groups.keys), groups.members, strict=True)
        base = unwrap(self.model)
        completions, logprobs = vllm_rollouts(
            self.vllm_generation,
            [request(prompt, self.preparer, num_completions=len(members)) for prompt, members in pairs],
            banned_ids=family_of(base).image_token_ids(base.config),
            profiler=profiling_context(self, "vLLM.generate"),
        )
        return groups.list_to_rows(completions), groups.list_to_rows(logprobs)

    def _calculate_rewards(
        self, inputs: list[dict[str, Any]], prompts: list, completions: list, completion_ids_list: list[list[int]]
    ) -> torch.Tensor:
        infos = {row: image_infos(self.preparer(self.table.examples[row])) for row in set(self._rows)}
        inputs = [{**row, "images": infos[row["example"]]} for row in inputs]
        rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        start = self.accelerator.process_index * len(prompts)
        self._scored = {
            "step": self.state.global_step,
            "mode": "train" if self.model.training else "eval",
            "completions": completions,
            "num_tokens": [len(ids) for ids in completion_ids_list],
            "rewards": {
                name: rewards[start : start + len(prompts), k].tolist() for k, name in enumerate(self.reward_func_names)
            },
            "images": [row["images"] for row in inputs],
        }
        return rewards

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        self._rows = inputs["example"].tolist()
        return super()._compute_loss(model, inputs)

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **_: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        kept = zip(input_ids[:, -logits_to_keep:].tolist(), attention_mask[:, -logits_to_keep:].tolist(), strict=True)
        completions = [[token for token, keep in zip(ids, mask, strict=True) if keep] for ids, mask in kept]
        size = batch_size or len(completions)
        parts = [
            self._chunk_logps(model, slice(start, start + size), completions, logits_to_keep, compute_entropy)
            for start in range(0, len(completions), size)
        ]
        logps = torch.cat([logps for logps, _ in parts])
        entropies = (
            torch.cat([entropies for _, entropies in parts if entropies is not None]) if compute_entropy else None
        )
        return logps, entropies, None

    def _chunk_logps(
        self, model: Any, chunk: slice, completions: list[list[int]], width: int, compute_entropy: bool
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        groups = RowGroups.of(self._rows[chunk])
        batch = groups.batch(self._prepared(groups.keys), completions[chunk])
        with self.accelerator.autocast():
            logps, entropies = self.engine.logps(model, batch, keys=groups.keys, compute_entropy=compute_entropy)
        return (
            groups.to_rows(logps, width=width),
            groups.to_rows(entropies, width=width) if entropies is not None else None,
        )

    def _prepared(self, rows: Sequence[int]) -> list[PreparedPrompt]:
        return [self.preparer(self.table.examples[row]) for row in rows]

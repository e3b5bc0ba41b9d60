"""TRL's GRPO trainer over Triptych's step: TRL's signature and manners, its rewards, losses, logs and training loop."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset
from peft import PeftConfig
from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin, TrainerCallback
from transformers.integrations import is_deepspeed_zero3_enabled
from triptych_data import ImagePolicy
from trl import GRPOConfig

from triptych_trainer.checkpoints.resume import ResumableGRPOTrainer
from triptych_trainer.forward import install_hooks
from triptych_trainer.grpo.batch import Cycle, TokenScores, TrainingBatch
from triptych_trainer.grpo.engine import GroupEngine
from triptych_trainer.grpo.groups import arrived_by_turn, check_groups_on_ranks, group_batch, group_order
from triptych_trainer.grpo.mismatch import WARN
from triptych_trainer.grpo.step import collect, policy_loss
from triptych_trainer.grpo.trl.arguments import (
    default_arguments,
    default_preparer,
    default_processing_class,
    evaluation_keys,
)
from triptych_trainer.grpo.trl.conversations import check_conversation_options, player, with_environment_reward
from triptych_trainer.grpo.trl.loss import loss_inputs
from triptych_trainer.grpo.trl.mismatch_watch import MismatchWatch
from triptych_trainer.grpo.trl.passes import opened_for_generation, opened_for_scoring, sampler, scoring, settings
from triptych_trainer.grpo.trl.private_names import check_attributes, check_methods, check_no_images
from triptych_trainer.grpo.trl.reports import show_images, tell
from triptych_trainer.grpo.trl.rewards import judge
from triptych_trainer.models.learning_rates import set_vision_learning_rate
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.monitor.learning_watch import LearningWatch
from triptych_trainer.options.refusals import (
    check_head_dtype,
    check_num_prompts,
    check_options,
    check_router_loss,
    check_slices,
    check_trainable,
)
from triptych_trainer.prompts.bad_rows import BadRows, prepared_with
from triptych_trainer.prompts.prepare import PreparedPrompt, PromptPreparer
from triptych_trainer.prompts.run_tables import KEY, RunTables
from triptych_trainer.prompts.table import Table
from triptych_trainer.rollouts.rollout import RolloutGroup
from triptych_trainer.trajectories.environments import Environments
from triptych_trainer.upstream.transformers_names import declare_router_logits
from triptych_trainer.verification.first_use import verify_first_use

__all__ = ["MultiImageGRPOTrainer"]

BATCH = "triptych_batch"
"""The one entry of a batch as TRL's training loop hands it from `_prepare_inputs` to `_compute_loss`."""


class MultiImageGRPOTrainer(ResumableGRPOTrainer):
    """TRL's ``GRPOTrainer`` in which every prompt, with its images, is paid for once for all of its completions.

    The step itself is in `grpo/step.py`; here its values cross to TRL and back, once each way.
    """

    def __init__(
        self,
        model: str | PreTrainedModel | Any,
        reward_funcs: Any = None,
        args: GRPOConfig | None = None,
        train_dataset: Dataset | Table | None = None,
        eval_dataset: Dataset | Table | Mapping[str, Dataset | Table] | None = None,
        processing_class: PreTrainedTokenizerBase | ProcessorMixin | None = None,
        reward_processing_classes: Any = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        quantization_config: Any = None,
        peft_config: PeftConfig | None = None,
        tools: Any = None,
        rollout_func: Any = None,
        environment_factory: Any = None,
        *,
        preparer: PromptPreparer | None = None,
        image_policy: ImagePolicy | None = None,
        group_sharing: str = "auto",
        verify_model: bool = True,
        completions_per_slice: int | None = None,
        vision_learning_rate: float | None = None,
        warn_after_steps: int = 20,
        on_rollouts: Callable[..., object] | None = None,
        bad_rows: BadRows | None = None,
        mismatch_kl_warn: float | None = WARN,
        mismatch_kl_limit: float | None = None,
        tool_seconds: float = 60.0,
        say: Callable[[str], object] = print,
    ) -> None:
        """Take what TRL's trainer takes, in its order, and a few things more.

        Args:
            train_dataset: a map-style dataset in TRL's columns (``prompt``, and ``image`` or ``images``), or a table of
                examples as the command line reads them.
            tools, environment_factory: what answers the model during a rollout, as for TRL; both may return images.
            rollout_func: refused.
            preparer: turns rows into token ids, spans and image inputs; by default one over ``processing_class``.
            image_policy: which files and addresses images may be read from; only without ``preparer``.
            group_sharing: ``auto`` forwards each prompt once for its completions where that is exact; ``off`` never.
            verify_model: compare the model with itself as transformers runs it, once, before it is sampled from.
            completions_per_slice: score and back-propagate at most so many completions at a time; not with sharded
                weights.
            vision_learning_rate: learning rate of the parameters outside the language model; None: that of ``args``.
            warn_after_steps: warn once when so many steps in a row could teach the model nothing; 0 never does.
            bad_rows: what becomes of rows that turn out to be unusable; None: they stop the run.
            mismatch_kl_warn, mismatch_kl_limit: with vLLM, the mean difference between what sampled and what is trained
                (``grpo/mismatch.py``) above which one warning is given, and above which the run ends.
            tool_seconds: how long a tool that is awaited may take.
            say: is told of every call of a tool that failed.
            on_rollouts: called once per generation with a list of `ScoredGroup`, and ``step`` and ``mode`` by keyword.

        Raises:
            IncompatibleVersionError: the installed TRL differs from the tested one.
            UsageError: an option or a dataset that this trainer cannot take; says what to pass instead.
            GroupSplitError: a prompt's completions would be spread over ranks.
        """
        check_methods()
        args = args or default_arguments(model)
        check_options(args)
        check_conversation_options(
            tools=tools, environment_factory=environment_factory, rollout_func=rollout_func, use_vllm=args.use_vllm
        )
        environments = None if environment_factory is None else Environments(environment_factory)
        args, reward_funcs = with_environment_reward(args, reward_funcs, environments)
        if not isinstance(model, str):
            check_head_dtype(args, model)
        if processing_class is None:
            processing_class = default_processing_class(model, args) if preparer is None else preparer.processor
        self.tables = RunTables()
        self._to_verify = verify_model
        self.on_rollouts = on_rollouts
        self.bad_rows = bad_rows
        self.mismatch_watch = MismatchWatch(warn=mismatch_kl_warn, limit=mismatch_kl_limit)
        self.vision_learning_rate = vision_learning_rate
        self.num_images_trained = 0
        """Unique images of the prompts trained on so far, on all ranks."""
        if isinstance(model, torch.nn.Module):
            declare_router_logits(model)
        super().__init__(
            model,
            reward_funcs,
            args=args,
            train_dataset=train_dataset and self.tables.keys_of(train_dataset, name="train_dataset"),
            eval_dataset=evaluation_keys(self.tables, eval_dataset),
            processing_class=processing_class,
            reward_processing_classes=reward_processing_classes,
            callbacks=callbacks,
            optimizers=optimizers,
            quantization_config=quantization_config,
            peft_config=peft_config,
        )
        check_attributes(self)
        if declare_router_logits(unwrap(self.model)):  # TRL loaded it by its name
            self.aux_loss_enabled = self.router_aux_loss_coef != 0
        check_trainable(self.model)
        self._check_run(group_sharing=group_sharing, completions_per_slice=completions_per_slice)
        self.preparer = preparer or default_preparer(self, image_policy)
        self.tables.on_fetch = self.preparer.prefetch
        self.engine = GroupEngine(
            temperature=self.temperature,
            share_prompts=group_sharing != "off",
            completions_per_slice=completions_per_slice,
            autocast=self.accelerator.autocast,
            router_loss=self.aux_loss_enabled,
            later_images=bool(tools or environments),
        )
        self.play = (
            player(self, tools=tools or (), environments=environments, tool_seconds=tool_seconds, say=say)
            if tools or environments
            else None
        )
        for part in (self.model, self.ref_model):
            if part is not None:
                install_hooks(self.accelerator.unwrap_model(part))
        self.tracker_images = show_images(self)
        self.learning = LearningWatch(args, num_steps=warn_after_steps, callbacks=self.callback_handler.callbacks)
        self.add_callback(self.learning)

    def _check_run(self, *, group_sharing: str, completions_per_slice: int | None) -> None:
        args = self.args
        check_router_loss(
            unwrap(self.model) if self.aux_loss_enabled else None, completions_per_slice=completions_per_slice
        )
        check_groups_on_ranks(
            per_device=args.per_device_train_batch_size,
            steps_per_generation=args.steps_per_generation,
            num_generations=args.num_generations,
            num_ranks=args.world_size,
        )
        sharded = self.is_fsdp_enabled or (self.is_deepspeed_enabled and is_deepspeed_zero3_enabled())
        check_slices(args, completions_per_slice, shared=group_sharing != "off", sharded=sharded)

    def get_train_dataloader(self) -> Any:
        """As TRL's; data that does not fill one generation is refused instead of training no step."""
        check_num_prompts(len(self.train_dataset), self.args)
        return super().get_train_dataloader()

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """As TRL's, over the keys of the rows."""
        if eval_dataset is not None and not isinstance(eval_dataset, str):
            eval_dataset = self.tables.keys_of(eval_dataset, name="eval_dataset")
        return super().get_eval_dataloader(eval_dataset)

    def get_test_dataloader(self, test_dataset: Any) -> Any:
        """As TRL's, over the keys of the rows."""
        return super().get_test_dataloader(self.tables.keys_of(test_dataset, name="test_dataset"))

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = [KEY]

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """As in transformers, with separate parameter groups for the vision tower if it has its own learning rate."""
        fresh = self.optimizer is None
        optimizer = super().create_optimizer(model)
        if fresh and self.vision_learning_rate is not None:
            set_vision_learning_rate(optimizer, self.model if model is None else model, self.vision_learning_rate)
        return optimizer

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        """As in TRL: a new generation if the last one is used up, else its next part. A part contains whole groups."""
        if not self.model.training:
            return self._generate_and_score_completions(generation_batch)
        parts = self.args.steps_per_generation
        if self._step % (parts * self.num_iterations) == 0 or self._buffered_inputs is None:
            batch = self._generate_and_score_completions(generation_batch)[BATCH]
            order = group_order(batch.keys, torch.randperm(len(batch.keys)).tolist())
            self._buffered_inputs = Cycle(
                keys=tuple(group.key for group in batch.groups), parts=batch.split(order, num_parts=parts)
            )
        return {BATCH: self._buffered_inputs.parts[self._step % parts]}

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """One generation of the step, from the keys of this rank's rows; a key stands there once per completion."""
        mode = "train" if self.model.training else "eval"
        prompts, sizes = prepared_with(
            self.bad_rows,
            Counter(row[KEY] for row in inputs),
            prepare=self.prompt_of,
            rows_beside=self.tables.rows_beside,
            step=self.state.global_step,
        )
        self.engine.forget()
        self._verify(list(prompts.values()))
        experience = collect(
            prompts,
            num_generations=sizes,
            sampler=sampler(self),
            judge=lambda groups: judge(self, groups),
            scoring=scoring(self),
            settings=settings(self, mode=mode),
            sum_over_ranks=lambda count: self.accelerator.gather(count).sum(),
            device=self.accelerator.device,
            play=self.play,
        )
        tell(self, experience, mode=mode)
        return {BATCH: experience.batch}

    def _verify(self, prompts: list[PreparedPrompt]) -> None:
        """At the first generation of a run, compare the model with itself as transformers runs it."""
        if not self._to_verify:
            return
        self._to_verify = False
        with opened_for_scoring(self, self.model) as model, self.engine.autocast():
            verify_first_use(
                model,
                prompts,
                self.preparer,
                open_for_sampling=None if self.use_vllm else lambda: opened_for_generation(self),
            )

    def prompt_of(self, key: int) -> PreparedPrompt:
        """The prepared prompt of a row."""
        prompt, example = self.tables.prompt(key), self.tables.example(key)
        if self.play is not None:
            example = self.play.dressed(example, is_text=isinstance(prompt, str))
        return self.preparer.plain(example, prompt) if isinstance(prompt, str) else self.preparer(example)

    def _compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
        """The policy pass, and TRL's loss of its scores."""
        return policy_loss(self.engine, model, inputs[BATCH], loss=self._loss_of_trl)

    def _loss_of_trl(self, scores: TokenScores, batch: TrainingBatch) -> torch.Tensor:
        return super()._compute_loss(scores, loss_inputs(batch, scores))

    def _get_per_token_logps_and_entropies(
        self,
        model: TokenScores,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        logits_to_keep: int,
        batch_size: int | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **images: None,
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor | None]:
        """TRL's loss asks the model for log-probabilities; in its place it was given those of the policy pass."""
        check_no_images(images)
        return model.logps_BC, model.entropies_BC, model.aux_loss

    def cycle_parts(self) -> dict[str, Any]:
        """What a checkpoint keeps besides the generation under way: the rows that were left out."""
        return {"bad_rows": [] if self.bad_rows is None else self.bad_rows.to_state()}

    def restore_cycle_parts(self, parts: Mapping[str, Any]) -> None:
        """Leave out the same rows as before."""
        if self.bad_rows is not None:
            self.bad_rows.restore(parts["bad_rows"])

    def cycle_to_state(self) -> Any:
        """What later steps of the generation under way are trained on; None before the first generation."""
        return None if self._buffered_inputs is None else self._buffered_inputs.to_state()

    def restore_cycle_from(self, state: Any) -> None:
        """Prepare the prompts again, and encode their images in one call as their generation did: equal to the bit.

        Images that arrived in rollouts are encoded turn by turn, as then; rollouts that are trained on no more are not.
        """
        self._buffered_inputs = Cycle.from_state(state, begin=self._begin, device=self.accelerator.device)
        known = {group.key: group for part in self._buffered_inputs.parts for group in part.groups}
        begun = [known[key] if key in known else self._begin(key, ()) for key in self._buffered_inputs.keys]
        self.engine.encode_ahead(
            self.model_wrapped,
            group_batch([group.with_rollouts(()) for group in begun]),
            keys=self._buffered_inputs.keys,
        )
        rollouts = [rollout for part in self._buffered_inputs.parts for rollout in part.rollouts]
        for batch in arrived_by_turn(rollouts):
            self.engine.encode_ahead(self.model_wrapped, batch, keys=())

    def _begin(self, key: int, shown: Sequence[Any]) -> RolloutGroup:
        """The group of a key without rollouts; ``shown`` is what its environment showed first."""
        group = RolloutGroup(key=key, prompt=self.prompt_of(key))
        return self.play.observed(group, shown) if shown and self.play is not None else group

"""TRL's GRPO trainer over Triptych's step: TRL's signature and manners, its rewards, losses, logs and training loop."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from datasets import Dataset
from peft import PeftConfig
from transformers import PreTrainedModel, PreTrainedTokenizerBase, ProcessorMixin, TrainerCallback
from triptych_data import ImagePolicy
from trl import GRPOConfig

from triptych_trainer.grpo.batch import TokenScores, TrainingBatch
from triptych_trainer.grpo.mismatch import WARN
from triptych_trainer.grpo.step import collect, policy_loss
from triptych_trainer.grpo.trl.ahead import RolloutsAhead
from triptych_trainer.grpo.trl.arguments import (
    check_environment_column,
    default_preparer,
    rows_of_environment,
)
from triptych_trainer.grpo.trl.building import attend_shared_prompts, check_run, complete, engine_of, player_of
from triptych_trainer.grpo.trl.cycle import new_cycle, restored_cycle
from triptych_trainer.grpo.trl.loss import by_what_remains, loss_inputs, row_factor, without_policy
from triptych_trainer.grpo.trl.mismatch_watch import MismatchWatch, warn_of_ban
from triptych_trainer.grpo.trl.optimizing import OptimizingTrainer
from triptych_trainer.grpo.trl.own_rollouts import own_rollouts
from triptych_trainer.grpo.trl.passes import prompts_of, sampler, scoring, settings, verify
from triptych_trainer.grpo.trl.reports import show_images, tell
from triptych_trainer.grpo.trl.rewards import reward_groups
from triptych_trainer.grpo.trl.row_loaders import TrainerOfRows
from triptych_trainer.grpo.trl.server import begin_server, connected
from triptych_trainer.grpo.vllm import SECONDS
from triptych_trainer.models.whole import only_whole_models
from triptych_trainer.monitor.learning_watch import LearningWatch
from triptych_trainer.options.vllm_refusals import check_rollout_lag
from triptych_trainer.options.written import naming_arguments
from triptych_trainer.prompts.bad_rows import BadRows
from triptych_trainer.prompts.example_table import Table
from triptych_trainer.prompts.prepare import PreparedPrompt, PromptPreparer
from triptych_trainer.prompts.run_tables import KEY, RunTables
from triptych_trainer.rollouts.rollout import RolloutGroup
from triptych_trainer.trajectories.replay import answers_of, check_answers
from triptych_trainer.trajectories.turn_options import TurnOptions
from triptych_trainer.upstream.trl_names import check_no_images

__all__ = ["MultiImageGRPOTrainer"]

BATCH = "triptych_batch"
"""The one entry of a batch as TRL's training loop hands it from `_prepare_inputs` to `_compute_loss`."""


@naming_arguments
class MultiImageGRPOTrainer(OptimizingTrainer, TrainerOfRows):
    """Trains as TRL's ``GRPOTrainer`` does, but computes every prompt once for all of its completions.

    The step itself is in `grpo/step.py`; here its values cross to TRL and back, once each way.

    Args:
        train_dataset: a map-style dataset in TRL's columns (``prompt``, and ``image`` or ``images``), or a table of
            examples as the command line reads them; None where an environment gives the tasks.
        tools, environment_factory: what answers the model during a rollout, as for TRL; both may return images.
        rollout_func: a loop of your own, as for TRL; images that arrive in it are returned as ``images``.
        preparer: turns rows into token ids, spans and image inputs; by default one over ``processing_class``.
        image_policy: which files and addresses images may be read from; only without ``preparer``.
        group_sharing: ``auto`` forwards each prompt once a step where that is exact, ``passes`` in each pass; ``off``.
        shared_attention: how shared prompts are attended: ``varlen`` without masks, ``masked``, or ``auto``.
        verify_model: compare the model with itself as transformers runs it, once, before it is sampled from.
        completions_per_slice: score and back-propagate at most this many completions at once; needs whole weights.
        vision_learning_rate: learning rate of the parameters outside the language model; None: that of ``args``.
        warn_after_steps: warn once when so many steps in a row could teach the model nothing; 0 never does.
        bad_rows: what becomes of rows that turn out to be unusable; None: they stop the run.
        mismatch_kl_warn, mismatch_kl_limit: with vLLM, differences (``grpo/mismatch.py``) that warn and end the run.
        rollout_lag, rollout_seconds: with a vLLM server, how many generations it samples ahead, and how long one takes.
        vllm_weight_transfer: how a vLLM server gets the weights: ``nccl``, ``folder``, or ``auto``.
        turns: how rollouts of several turns are sampled and compared; the defaults are those of `TurnOptions`.
        say: is told of every call of a tool that failed.
        on_rollouts: called once per generation with a list of `ScoredGroup`, and ``step`` and ``mode`` by keyword.

    Raises:
        IncompatibleVersionError: the installed TRL differs from the tested one.
        UsageError: an option or a dataset that this trainer cannot take; says what to pass instead.
        GroupSplitError: a prompt's completions would be spread over ranks.
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
        shared_attention: str = "auto",
        verify_model: bool = True,
        completions_per_slice: int | None = None,
        vision_learning_rate: float | None = None,
        warn_after_steps: int = 20,
        on_rollouts: Callable[..., object] | None = None,
        bad_rows: BadRows | None = None,
        mismatch_kl_warn: float | None = WARN,
        mismatch_kl_limit: float | None = None,
        rollout_lag: int = 0,
        rollout_seconds: float = SECONDS,
        vllm_weight_transfer: str = "auto",
        turns: TurnOptions | None = None,
        say: Callable[[str], object] = print,
    ) -> None:
        """Take what TRL's trainer takes, in its order, and the options that the class describes."""
        given = complete(
            model,
            reward_funcs,
            args=args,
            processing_class=processing_class,
            preparer=preparer,
            tools=tools,
            rollout_func=rollout_func,
            environment_factory=environment_factory,
            turns=turns,
            peft_config=peft_config,
            quantization_config=quantization_config,
        )
        self.turns = given.turns
        if train_dataset is None and given.environments is not None:
            train_dataset = rows_of_environment(given.args, given.environments)
        check_environment_column(given.environments, train_dataset, name="train_dataset")
        check_environment_column(given.environments, eval_dataset, name="eval_dataset")
        self.tables = RunTables(needs_prompt=given.environments is None)
        self.mismatch_watch = MismatchWatch(warn=mismatch_kl_warn, limit=mismatch_kl_limit)
        check_rollout_lag(rollout_lag, given.args, has_turns=given.has_turns)
        with connected(given.args, transfer=vllm_weight_transfer), only_whole_models():
            super().__init__(
                given.model,
                given.rewards,
                args=given.args,
                train_dataset=train_dataset and self.tables.keys_of(train_dataset, name="train_dataset"),
                eval_dataset=self.tables.evaluation_keys(eval_dataset),
                processing_class=given.processing_class,
                reward_processing_classes=reward_processing_classes,
                callbacks=callbacks,
                optimizers=optimizers,
                quantization_config=quantization_config,
                peft_config=peft_config,
            )
        self.train_dataset, self.eval_dataset = train_dataset, eval_dataset  # as given; TRL took the keys
        begin_server(self, transfer=vllm_weight_transfer, seconds=rollout_seconds)
        self.ahead = RolloutsAhead(rollout_lag) if rollout_lag else None
        check_run(self, group_sharing=group_sharing, completions_per_slice=completions_per_slice)
        warn_of_ban(self)
        self.vision_learning_rate, self.on_rollouts, self.bad_rows = vision_learning_rate, on_rollouts, bad_rows
        self.num_images_trained = 0
        """Unique images of the prompts trained on so far, on all ranks."""
        self._to_verify = verify_model
        self.preparer = preparer or default_preparer(self, image_policy, threads=given.image_threads)
        self.tables.on_fetch = self.preparer.prefetch
        attend_shared_prompts(self, shared_attention)
        self.engine = engine_of(self, given, group_sharing=group_sharing, completions_per_slice=completions_per_slice)
        self.play = player_of(self, given, say=say)
        self.own_rollouts = own_rollouts(self, rollout_func)
        self.tracker_images = show_images(self)
        self.learning = LearningWatch(self.args, num_steps=warn_after_steps, callbacks=self.callback_handler.callbacks)
        self.add_callback(self.learning)

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any]:
        """Return the next part, in whole groups, of the generation; sample a new generation after the last part."""
        if not self.model.training:
            return self._generate_and_score_completions(generation_batch)
        parts = self.args.steps_per_generation
        if self._step % (parts * self.num_iterations) == 0 or self._buffered_inputs is None:
            batch = self._generate_and_score_completions(generation_batch)[BATCH]
            self._buffered_inputs = new_cycle(batch, num_parts=parts)
        return {BATCH: self._buffered_inputs.parts[self._step % parts]}

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """One generation of the step, from the keys of this rank's rows; a key is there once per completion."""
        mode = "train" if self.model.training else "eval"
        keys = [row[KEY] for row in inputs]
        begun = self.ahead.begin(self, keys) if self.ahead is not None and mode == "train" else None
        prompts, sizes = (begun.prompts, begun.sizes) if begun else prompts_of(self, keys)
        self.engine.forget()
        if self._to_verify:  # at the first generation of a run
            self._to_verify = False
            verify(self, list(prompts.values()))
        experience = collect(
            prompts,
            num_generations=sizes,
            sampler=sampler(self, begun),
            reward_groups=lambda groups: reward_groups(self, groups),
            scoring=scoring(self),
            settings=settings(self, mode=mode),
            sum_over_ranks=lambda count: self.accelerator.gather(count).sum(),
            device=self.accelerator.device,
            play=self.play or self.own_rollouts,
        )
        tell(self, experience, mode=mode)
        return {BATCH: experience.batch}

    def prompt_of(self, key: int) -> PreparedPrompt:
        """Return the prepared prompt of a row."""
        example = self.tables.example(key)
        prompt = self.tables.prompt(key, example)
        if self.play is not None:
            example = self.play.dressed(example, key=key, is_text=isinstance(prompt, str))
        return self.preparer.plain(example, prompt) if isinstance(prompt, str) else self.preparer(example)

    def _compute_loss(self, model: torch.nn.Module, inputs: dict[str, Any]) -> torch.Tensor:
        """The policy pass, and TRL's loss of its scores."""
        return policy_loss(self.engine, model, inputs[BATCH], loss=self._loss_of_trl)

    def _loss_of_trl(self, scores: TokenScores, batch: TrainingBatch) -> torch.Tensor:
        factor = row_factor(batch, loss_type=self.loss_type)
        beside = 0.0 if factor is None else without_policy(self, scores, batch)
        loss = super()._compute_loss(scores, loss_inputs(batch, scores))
        return loss if factor is None else by_what_remains(loss, factor=factor, beside=beside)

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
        """Answer TRL's loss, which asks the model for log-probabilities, with the scores of the policy pass.

        A model that a script gives is run by TRL.
        """
        if not isinstance(model, TokenScores):
            return super()._get_per_token_logps_and_entropies(
                model,
                input_ids,
                attention_mask,
                logits_to_keep,
                batch_size=batch_size,
                compute_entropy=compute_entropy,
                compute_aux_loss=compute_aux_loss,
                **images,
            )
        check_no_images(images)
        return model.logps_BC, model.entropies_BC, model.aux_loss

    def cycle_parts(self) -> dict[str, Any]:
        """Return what a checkpoint also keeps: rows left out, and what environments and tools answered last."""
        return {
            "bad_rows": [] if self.bad_rows is None else self.bad_rows.to_state(),
            **answers_of(self.play),
        }

    def restore_cycle_parts(self, parts: Mapping[str, Any]) -> None:
        """Leave out the same rows as before, and look whether environments and tools answer as before."""
        if self.bad_rows is not None:
            self.bad_rows.restore(parts["bad_rows"])
        if self.play is not None:
            check_answers(self.play, parts, begin=self._begin)

    def cycle_to_state(self) -> Any:
        """Return what later steps of the generation under way are trained on, or None before the first generation."""
        return None if self._buffered_inputs is None else self._buffered_inputs.to_state()

    def restore_cycle_from(self, state: Any) -> None:
        """Prepare the prompts and the images of the generation under way again."""
        self._buffered_inputs = restored_cycle(self, state, begin=self._begin)

    def _begin(self, key: int, shown: Sequence[Any]) -> RolloutGroup:
        """The group of a key without rollouts; ``shown`` is what its environment showed first."""
        group = RolloutGroup(key=key, prompt=self.prompt_of(key))
        return self.play.observed(group, shown) if shown and self.play is not None else group

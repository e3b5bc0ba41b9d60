"""TRL's SFT trainer over Triptych's passes: TRL's options, its loss, logs and training loop."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from peft import PeftConfig
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

from triptych_trainer.checkpoints.order import EpochSampler
from triptych_trainer.checkpoints.resume import ResumableTrainer
from triptych_trainer.errors import UsageError
from triptych_trainer.forward import install_hooks
from triptych_trainer.forward.choose import sharing_path_and_reason
from triptych_trainer.grpo.engine import GroupEngine
from triptych_trainer.grpo.trl.optimizing import OptimizingTrainer
from triptych_trainer.models.adapters import check_kinds, given_adapters
from triptych_trainer.models.unwrap import unwrap
from triptych_trainer.models.whole import only_whole_models, warn_of_made_up_weights
from triptych_trainer.options.refusals import check_router_loss, check_trainable
from triptych_trainer.options.written import naming_arguments
from triptych_trainer.prompts.bad_rows import BadRows, prepared_with
from triptych_trainer.prompts.example_table import Table
from triptych_trainer.prompts.prepare import PromptPreparer
from triptych_trainer.prompts.run_tables import KEY, RunTables
from triptych_trainer.sft.row_check import message_end_ids
from triptych_trainer.sft.rows import ConversationPreparer, LabelledRow, group_batch, labels_of
from triptych_trainer.sft.tools import Dress
from triptych_trainer.upstream.transformers_names import declare_router_logits
from triptych_trainer.upstream.trl_names import check_sft_attributes, check_sft_methods, disable_gradient_checkpointing
from triptych_trainer.verification.first_use import verify_first_use

__all__ = ["MultiImageSFTTrainer"]

ROWS = "triptych_rows"
"""The entry of a batch that contains its rows; the others are what TRL and transformers count by."""


@dataclass(kw_only=True, slots=True)
class Scores:
    """Contains a pass as TRL's loss reads it: the outputs of a model with its fused head."""

    log_probs: torch.Tensor
    entropy: torch.Tensor
    label_mask: torch.Tensor
    is_top1: torch.Tensor
    aux_loss: torch.Tensor | None


def why_not_packed(base: torch.nn.Module) -> str | None:
    """Return why a model cannot take several rows as one sequence, or None if it can."""
    path, reason = sharing_path_and_reason(base)
    return None if path == "packed" else reason or "its layers keep a state from row to row"


@naming_arguments
class MultiImageSFTTrainer(OptimizingTrainer, ResumableTrainer, SFTTrainer):
    """Trains as TRL's ``SFTTrainer`` on the assistant's turns of conversations that show images wherever their markers
    are.

    Args:
        args: TRL's options. With ``packing`` the rows of a batch are one sequence without pads.
        train_dataset, eval_dataset: map-style datasets, or tables of examples as the command line reads them.
        preparer: turns rows into token ids, spans and image inputs.
        verify_model: compare the model with itself as transformers runs it, once, before the first step.
        vision_learning_rate: learning rate of the parameters outside the language model; None: that of ``args``.
        dress: adds the tools of the run to an example (``sft/tools.py``).
        bad_rows: what becomes of rows that turn out to be unusable; None: they stop the run.

    Raises:
        IncompatibleVersionError: the installed TRL differs from the tested one.
        UsageError: an option or a model that this trainer cannot take.
    """

    def __init__(
        self,
        model: Any,
        args: SFTConfig,
        train_dataset: Table | Any,
        eval_dataset: Table | Any = None,
        callbacks: list[TrainerCallback] | None = None,
        optimizers: tuple[Any, Any] = (None, None),
        peft_config: PeftConfig | None = None,
        *,
        preparer: PromptPreparer,
        verify_model: bool = True,
        vision_learning_rate: float | None = None,
        dress: Dress | None = None,
        bad_rows: BadRows | None = None,
    ) -> None:
        """Take what TRL's trainer takes, and the options that the class describes."""
        check_sft_methods(SFTTrainer)
        check_kinds(given_adapters(model, peft_config), option="peft_config")
        self.tables = RunTables(whole_rows=True)
        declare_router_logits(model)
        own = copy.copy(args)  # the caller's own options stay as they are
        own.packing, own.dataset_kwargs = False, {"skip_prepare_dataset": True}
        with only_whole_models():
            super().__init__(
                model,
                args=own,
                data_collator=self._collated,
                train_dataset=self.tables.keys_of(train_dataset, name="train_dataset"),
                eval_dataset=self.tables.evaluation_keys(eval_dataset),
                processing_class=preparer.processor,
                callbacks=callbacks,
                optimizers=optimizers,
                peft_config=peft_config,
            )
        check_sft_attributes(self)
        check_trainable(self.model)
        warn_of_made_up_weights(self.model)
        base = unwrap(self.model)
        check_router_loss(base if self.aux_loss_enabled else None, completions_per_slice=None)
        self.model_accepts_loss_kwargs = True  # the loss is always that of all labels of a step
        self.vision_learning_rate = vision_learning_rate
        self.bad_rows = bad_rows
        self.num_images_trained = 0
        """Images of the rows trained on so far, on all ranks."""
        self.preparer = ConversationPreparer(
            preparer,
            end_ids=message_end_ids(base.generation_config, preparer.processor),
            max_tokens=args.max_length,
            dress=dress,
        )
        self.tables.on_fetch = self.preparer.prefetch
        self._to_verify = verify_model
        self.why_not_packed = why_not_packed(base)
        """Why this model cannot take several rows as one sequence; None where it can."""
        self.engine = self._engine(packs=args.packing and self.why_not_packed is None)

    def _engine(self, *, packs: bool) -> GroupEngine:
        """The engine of every pass, with its hooks in the model."""
        install_hooks(self.accelerator.unwrap_model(self.model))
        return GroupEngine(
            share_prompts=packs,
            autocast=self.accelerator.autocast,
            router_loss=self.aux_loss_enabled,
            later_images=True,
        )

    def _collated(self, features: Sequence[Mapping[str, int]]) -> dict[str, Any]:
        """The rows of a batch by their keys, prepared; bad rows are replaced."""
        keys = Counter(feature[KEY] for feature in features)
        rows, counts = prepared_with(
            self.bad_rows, keys, prepare=self.row_of, rows_beside=self.tables.rows_beside, step=0
        )
        chosen = [rows[key] for key, count in counts.items() for _ in range(count)]
        labels_BC, mask_BT = labels_of(chosen)
        return {"labels": labels_BC, "attention_mask": mask_BT, ROWS: tuple(chosen)}

    def row_of(self, key: int) -> LabelledRow:
        """Return the prepared row of a key."""
        return self.preparer(self.tables.example(key))

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Return TRL's loss of the scores of our pass, which it gets in the place of the model."""
        rows = inputs.pop(ROWS)
        if self._to_verify:
            self._to_verify = False
            self._verify(rows)
        if self.model.training:
            own = torch.tensor(sum(len(row.prompt.image_inputs) for row in rows), device=self.accelerator.device)
            self.num_images_trained += int(self.accelerator.gather(own).sum())
        scored = partial(self._scores, model, rows)
        loss = super().compute_loss(scored, inputs, return_outputs=False, num_items_in_batch=num_items_in_batch)
        mode = "train" if self.model.training else "eval"
        self._metrics[mode].pop("mean_token_accuracy", None)  # our passes keep no other token's probability
        return (loss, None) if return_outputs else loss

    def _scores(self, model: Any, rows: Sequence[LabelledRow], *, labels: torch.Tensor, **given: Any) -> Scores:
        self.engine.forget()
        batch = group_batch(rows)
        found = self.engine.logps(
            model, batch, keys=range(len(rows)), compute_entropy=True, compute_router_loss=self.aux_loss_enabled
        )
        assert found.entropies_BC is not None
        mask_BC = labels[:, 1:] != -100
        assert mask_BC.shape == found.logps_BC.shape
        return Scores(
            log_probs=found.logps_BC,
            entropy=found.entropies_BC,
            label_mask=mask_BC,
            is_top1=torch.zeros_like(mask_BC),
            aux_loss=found.aux_loss,
        )

    def _verify(self, rows: Sequence[LabelledRow]) -> None:
        """Compare the model with itself as transformers runs it, on rows of the first batch.

        Raises:
            VerificationError: they differ by more than rounding can explain.
        """
        checkpointing = self.args.gradient_checkpointing_kwargs
        with disable_gradient_checkpointing(self.model, checkpointing), self.accelerator.autocast():
            verify_first_use(self.model, [row.prompt for row in rows], self.preparer.prompts, open_for_sampling=None)

    def get_train_dataloader(self) -> Any:
        """Make transformers' loader; fewer rows than ranks are refused instead of trained on twice."""
        if len(self.train_dataset) < self.args.world_size:
            raise UsageError(
                f"--data: expected a row for each of the {self.args.world_size} ranks, got {len(self.train_dataset)}; "
                "give more rows, or start fewer processes"
            )
        return super().get_train_dataloader()

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        rows = self.train_dataset if train_dataset is None else train_dataset
        seed = self.args.seed if self.args.data_seed is None else self.args.data_seed
        shuffle = self.args.train_sampling_strategy != "sequential"
        self._train_sampler = EpochSampler(rows, mini_repeat_count=1, shuffle=shuffle, seed=seed)
        return self._train_sampler

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Return the loss on rows; a dataset that is given here is needed only until the call ends.

        Raises:
            UsageError: a dataset has no rows or is no map-style dataset.
        """
        with self.tables.passing(self.bad_rows):
            keys = eval_dataset if isinstance(eval_dataset, str) else self.tables.evaluation_keys(eval_dataset)
            return super().evaluate(keys, ignore_keys=ignore_keys, metric_key_prefix=metric_key_prefix)

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = [KEY]

    def floating_point_ops(self, inputs: Any) -> int:
        """Return 0, because the estimate of transformers knows no images."""
        return 0

    def cycle_parts(self) -> dict[str, Any]:
        """Return what a checkpoint keeps: the tokens so far, and the rows that were left out."""
        left_out = [] if self.bad_rows is None else self.bad_rows.to_state()
        return {"bad_rows": left_out, "num_tokens": self._total_train_tokens}

    def restore_cycle_parts(self, parts: Mapping[str, Any]) -> None:
        """Go on counting tokens from the checkpoint's number, and leave out the same rows."""
        self._total_train_tokens = parts["num_tokens"]
        if self.bad_rows is not None:
            self.bad_rows.restore(parts["bad_rows"])

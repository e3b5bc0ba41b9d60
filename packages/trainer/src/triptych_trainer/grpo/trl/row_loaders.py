"""TRL's loaders over the keys of rows, while the trainer keeps the datasets as a script gave them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from transformers.trainer_utils import PredictionOutput

from triptych_trainer.checkpoints.resume_grpo import ResumableGRPOTrainer
from triptych_trainer.errors import UsageError
from triptych_trainer.options.refusals import check_num_prompts
from triptych_trainer.prompts.bad_rows import BadRows
from triptych_trainer.prompts.run_tables import KEY, RunTables

__all__ = ["TrainerOfRows"]


class TrainerOfRows(ResumableGRPOTrainer):
    """Gives a trainer batches that contain the keys of rows, and never a copy of their images."""

    tables: RunTables
    train_dataset: Any
    eval_dataset: Any
    bad_rows: BadRows | None

    def get_train_dataloader(self) -> Any:
        """Make TRL's loader of keys; refuse data that does not fill one generation, because it would train no step."""
        check_num_prompts(len(self.train_dataset), self.args)
        rows = self.train_dataset
        self.train_dataset = self.tables.keys_of(rows, name="train_dataset")
        try:
            return super().get_train_dataloader()
        finally:
            self.train_dataset = rows

    def get_eval_dataloader(self, eval_dataset: Any = None) -> Any:
        """Make TRL's loader over the keys of the rows."""
        if eval_dataset is None:
            eval_dataset = self.eval_dataset
        elif isinstance(eval_dataset, str):
            eval_dataset = self._part(eval_dataset)
        if eval_dataset is not None:
            eval_dataset = self.tables.keys_of(eval_dataset, name="eval_dataset")
        return super().get_eval_dataloader(eval_dataset)

    def get_test_dataloader(self, test_dataset: Any) -> Any:
        """Make TRL's loader over the keys of the rows."""
        return super().get_test_dataloader(self.tables.keys_of(test_dataset, name="test_dataset"))

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Sample and score completions as TRL does; a dataset that is given here is needed only until the call ends.

        Raises:
            UsageError: a dataset, or one of several by name, has no rows or is no map-style dataset.
        """
        with self.tables.passing(self.bad_rows):
            if isinstance(eval_dataset, Mapping):
                eval_dataset = dict(eval_dataset)
                self.tables.evaluation_keys(eval_dataset)  # by their names, before the first one is sampled for
            return super().evaluate(eval_dataset, ignore_keys=ignore_keys, metric_key_prefix=metric_key_prefix)

    def predict(
        self, test_dataset: Any, ignore_keys: list[str] | None = None, metric_key_prefix: str = "test"
    ) -> PredictionOutput:
        """Sample and score completions of a dataset; return what TRL returns, which are no predictions, and the means
        of an evaluation.

        TRL leaves these means where the next evaluation finds them, and counts them as its own.

        Raises:
            UsageError: the dataset has no rows, or is no map-style dataset.
        """
        before = self._metrics["eval"]
        self._metrics["eval"] = defaultdict(list)
        try:
            with self.tables.passing(self.bad_rows):
                output = super().predict(test_dataset, ignore_keys=ignore_keys, metric_key_prefix=metric_key_prefix)
            for name, values in self._metrics["eval"].items():
                if known := [value for value in values if not math.isnan(value)]:
                    output.metrics[f"{metric_key_prefix}_{name}"] = sum(known) / len(known)
        finally:
            self._metrics["eval"] = before
        return output

    def _part(self, name: str) -> Any:
        """The evaluation dataset of a name."""
        names = list(self.eval_dataset) if isinstance(self.eval_dataset, Mapping) else []
        if name not in names:
            known = f"one of {', '.join(map(repr, names))}" if names else "a dataset"
            raise UsageError(
                f"eval_dataset: expected {known}, got the name {name!r}; the names are those of the datasets that the "
                "trainer was built with"
            )
        return self.eval_dataset[name]

    def _set_signature_columns_if_needed(self) -> None:
        self._signature_columns = [KEY]

"""Stock TRL on `as_trl_dataset`: it trains, and every image is decoded once however often TRL repeats its row."""

from transformers import AutoModelForImageTextToText
from triptych_data import ImageLoader, as_trl_dataset, read_examples
from triptych_trainer.models.load import load_processor
from trl import GRPOConfig, GRPOTrainer


def test_the_stock_trainer_decodes_each_image_once(model_dir, options, write_rows, caplog):
    seen = []

    def reward(completions, answer, kind, **_):
        seen.extend(zip(answer, kind, strict=True))
        return [float(len(completion[0]["content"]) % 3) for completion in completions]

    examples = read_examples(write_rows([1, 2, 3, 1]))
    with ImageLoader(threads=1) as images:
        trainer = GRPOTrainer(
            AutoModelForImageTextToText.from_pretrained(model_dir),
            reward,
            args=GRPOConfig(**{**options, "max_steps": 3, "steps_per_generation": 2, "num_iterations": 2}),
            train_dataset=as_trl_dataset(examples, images=images),
            processing_class=load_processor(str(model_dir)),
        )
        trainer.train()
        unique = {image.key for example in examples for image in example.images}
        assert images.decodes <= len(unique)
    assert trainer.state.global_step == 3
    assert set(seen) <= {("red", f"{count} images") for count in (1, 2, 3)}
    assert "hashed" not in caplog.text

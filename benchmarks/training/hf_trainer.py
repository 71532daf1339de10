"""Hugging Face's Trainer over a Llama of transformers: ``python -m benchmarks.training.hf_trainer SETTINGS.json``.

Prints the seconds of every step as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch


class _Rows(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
    """Rows of a token file, one behind the other."""

    def __init__(self, path: Path, context: int) -> None:
        self._ids, self._context = np.memmap(path, "<u2", "r"), context

    def __len__(self) -> int:
        return len(self._ids) // self._context

    def __getitem__(self, row: int) -> dict[str, torch.Tensor]:
        ids = self._ids[row * self._context : (row + 1) * self._context].astype(np.int64)
        tokens = torch.from_numpy(ids)
        return {"input_ids": tokens, "labels": tokens}


def main(settings: dict[str, Any]) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM, Trainer, TrainerCallback, TrainingArguments

    seconds: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        """From the end of a step to the end of the next: reading the batch belongs to it."""

        ended = 0.0

        def on_step_end(self, *_: Any, **__: Any) -> None:
            now = time.perf_counter()
            if self.ended:
                seconds.append(now - self.ended)
            self.ended = now

    shape = settings["shape"]
    config = LlamaConfig(
        vocab_size=shape["vocabulary"], hidden_size=shape["width"], num_hidden_layers=shape["layers"],
        num_attention_heads=shape["heads"], intermediate_size=shape["feed_forward"],
        max_position_embeddings=shape["context"], tie_word_embeddings=True,
    )  # fmt: skip
    arguments = TrainingArguments(
        output_dir=settings["output"], use_cpu=True, per_device_train_batch_size=settings["batch_sequences"],
        max_steps=settings["steps"], learning_rate=1e-3, weight_decay=0.1, max_grad_norm=1.0, logging_steps=10,
        save_strategy="no", report_to=[], disable_tqdm=True, seed=1,
    )  # fmt: skip
    rows = _Rows(Path(settings["data"]), shape["context"])
    trainer = Trainer(LlamaForCausalLM(config), arguments, train_dataset=rows, callbacks=[Clock()])
    trainer.train()
    print(json.dumps(seconds))


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))

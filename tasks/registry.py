"""The list of tasks: all that a new kind of step has to be added to."""

from __future__ import annotations

from importlib import import_module

from tasks.task import Task

PLUMBING = "finding a task by its name cannot shape what it makes"

TASKS: dict[str, str] = {
    "collect": "tasks.collect:Collect",
    "clean_html": "tasks.clean_html:CleanHtml",
    "filter": "tasks.filter:Filter",
    "scrub_pii": "tasks.scrub_pii:ScrubPii",
    "dedup": "tasks.dedup:Dedup",
    "drop_passages": "tasks.drop_passages:DropPassages",
    "decontaminate": "tasks.decontaminate:Decontaminate",
    "augment": "tasks.augment:Augment",
    "train_tokenizer": "tasks.train_tokenizer:TrainTokenizer",
    "shard": "tasks.shard:Shard",
    "import_tokens": "tasks.import_tokens:ImportTokens",
    "pretrain": "tasks.pretrain:Pretrain",
    "examples": "tasks.examples:MakeExamples",
    "finetune": "tasks.finetune:Finetune",
    "evaluate": "tasks.evaluate:Evaluate",
    "train_classifier": "tasks.train_classifier:TrainClassifier",
    "quality_check": "tasks.quality_check:QualityCheck",
}
"""Name in a recipe → module and class, imported when a recipe asks for it."""


def task_class(name: str) -> type[Task]:
    """The class of the task called ``name``; KeyError if there is none."""
    module, _, attribute = TASKS[name].partition(":")
    found: type[Task] = getattr(import_module(module), attribute)
    return found

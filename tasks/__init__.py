"""One file per kind of step, beside folders with what each of them is made of.

``task`` says what a step is, and ``registry`` lists them all. A pipeline's order: ``collect``, ``clean_html``,
``filter``, ``scrub_pii``, ``dedup``, ``train_tokenizer``, ``shard``, ``pretrain``, ``examples``, ``finetune``,
``evaluate``.
Those that work on a corpus give the work on a partition, or on rows of one, to ``context``.
"""

"""Bytes: the store, the formats of what it holds, and identity.

``store`` keeps artifacts (``artifact``: named files of a kind), builds by their keys (``builds``, ``identity``) and
names that move; their files are ``objects`` at a ``place``. The formats are ``corpus``, ``shards`` and ``tokenizer``.
"""

"""The network, its objectives, and the one training loop.

The main path: ``request`` says what is asked for, ``launching`` starts a ``worker`` for each process, ``training`` puts
together what lies in ``network``, ``data``, ``learning`` and ``checkpoints``, and ``loop`` trains by ``engine``.
"""

"""Orchestration: what runs when, and what is recorded.

The main path: ``cli`` reads the command line, ``recipe`` makes a graph of steps of a file, ``plan`` says which are to
be built, ``pipeline`` runs one Prefect task for each, and ``build`` makes its artifact, or finds it in the store.
"""

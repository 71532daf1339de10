"""Quality and speed beside the peers, as commands; results are kept in ``benchmarks/results``."""

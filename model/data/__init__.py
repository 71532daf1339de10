"""From token shards to batches: which tokens lie where, from the seed alone."""

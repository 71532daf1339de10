"""How several processes share one network: sequences and matrices in parts, layers in stages."""

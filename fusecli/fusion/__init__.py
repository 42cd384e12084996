"""From a pair of images to a fused one: the pair, the network made ready, tiles and workers."""

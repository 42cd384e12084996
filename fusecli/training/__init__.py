"""How a network is trained: recipe, crops, step, loop and the folder of a run."""

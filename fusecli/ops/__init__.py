"""Tensor functions that several networks share; some have a fast path beside the plain one."""

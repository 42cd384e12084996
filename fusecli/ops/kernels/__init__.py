"""Triton kernels, one file for each op. Imported only when an op has chosen its kernel."""

"""Image files and pairs of them, as arrays and keys."""

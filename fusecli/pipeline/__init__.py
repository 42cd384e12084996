"""What happens to a folder of pairs: decode, register, fuse, score, train."""

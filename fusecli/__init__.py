"""Fuse infrared and visible images, also when the two cameras do not quite agree."""

__version__ = "0.1.0"

"""A folder of items as one run: planned, recorded, resumed, shared among machines."""

"""A small single-shot object detector."""

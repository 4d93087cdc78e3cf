"""A small single-shot detector: what is on the image, and where."""

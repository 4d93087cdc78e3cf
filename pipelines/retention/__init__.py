"""Removing what is no longer kept, and erasing what must be forgotten: the store's part."""

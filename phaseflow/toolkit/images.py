"""Conversion of image files to the pixels of a column, and back, for project code."""

from phaseflow.kinds.image_files import FORMATS, MAX_PIXELS, MAX_SCANS, MAX_SIDE, SCAN, decode, encode, picture, size

__all__ = ["FORMATS", "MAX_PIXELS", "MAX_SCANS", "MAX_SIDE", "SCAN", "decode", "encode", "picture", "size"]

"""A convolutional network reads handwritten digits."""

"""Classification of handwritten digits with a convolutional network."""

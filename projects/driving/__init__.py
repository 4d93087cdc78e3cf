"""A network learns to drive by imitating an expert."""

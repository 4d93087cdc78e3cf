"""A network learns to drive by watching an expert."""

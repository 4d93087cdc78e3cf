"""What crosses components, on the platform's real processes."""

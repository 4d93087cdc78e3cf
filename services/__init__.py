"""What runs beside the pipelines: serving, registry, monitor, portal."""

"""The services that run beside the pipelines: serving, registry, monitor, portal and backup."""

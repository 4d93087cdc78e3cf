"""Which version is served: promotion and rollback by MLflow's aliases, one at a time."""

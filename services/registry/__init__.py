"""Promotion and rollback of model versions by MLflow's aliases, and the retention of versions and runs."""

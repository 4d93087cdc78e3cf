"""The `phaseflow` command."""

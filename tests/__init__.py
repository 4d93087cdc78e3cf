"""Tests across components, on the platform's real processes."""

"""Drift reports by Evidently, the webhook that triggers retraining, and the platform's own metrics."""

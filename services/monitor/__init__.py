"""Evidently's reports on windows of the prediction log, the hook that retrains, and the platform's own metrics."""

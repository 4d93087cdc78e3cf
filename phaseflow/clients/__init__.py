"""Clients of the parts' REST APIs: one module per part, and `rest`, which sends their calls."""

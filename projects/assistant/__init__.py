"""A shop's assistant: a small language model that learns how its shop answers."""

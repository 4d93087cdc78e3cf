"""A shop's assistant: a small language model that is tuned to answer as the shop does."""

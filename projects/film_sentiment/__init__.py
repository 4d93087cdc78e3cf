"""Sentiment classification of sentences about films."""

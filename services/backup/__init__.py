"""Backups of a release: the objects of the store together with the dumps of the databases."""

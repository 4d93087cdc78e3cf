"""Airflow reads this file: every project's two DAGs, made by one call."""

from dags.loader import load

load(globals())

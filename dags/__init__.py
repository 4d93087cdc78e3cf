"""Generates the Airflow DAGs of projects."""

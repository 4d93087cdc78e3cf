"""Holds no DAG: a wrong project.py shows as this file's airflow import error, and the other projects' DAGs run on."""

from dags.factory import check

check()

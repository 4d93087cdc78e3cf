"""Contains no DAG: an invalid project.py is shown as an import error of this file in airflow, while other projects' DAGs keep running."""

from dags.factory import check

check()

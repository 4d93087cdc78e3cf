"""Every project's airflow DAGs, by one call."""

from dags.factory import load

load(globals())

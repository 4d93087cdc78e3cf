"""Every project's airflow DAGs, by one call."""

from dags.clean import load as load_retention
from dags.factory import load

load(globals())
load_retention(globals())

"""The airflow DAG file with all DAGs: training, monitoring, retention and maintenance."""

from dags.clean import load as load_retention
from dags.factory import load
from dags.maintenance import load as load_maintenance

load(globals())
load_retention(globals())
load_maintenance(globals())

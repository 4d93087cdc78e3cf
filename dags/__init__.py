"""A project becomes two Airflow DAGs: `<project>` trains, `<project>_monitor` watches."""

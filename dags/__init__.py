"""Project -> Airflow DAGs."""

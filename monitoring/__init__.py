"""A project becomes Prometheus rules, Alertmanager routes and Grafana dashboards."""

"""Generates Prometheus rules, Alertmanager routes and Grafana dashboards from the projects' declarations."""

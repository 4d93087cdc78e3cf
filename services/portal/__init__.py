"""The front door: what the platform does now, each project at a glance, and the dashboards where there is no Grafana."""

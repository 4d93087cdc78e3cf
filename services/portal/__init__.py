"""The start page: the state of the platform, each project at a glance, and the dashboards for platforms without Grafana."""

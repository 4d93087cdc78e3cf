# docker buildx bake -f tests/cluster/images/images.hcl: the stand-ins, under the names in the charts' values.
group "default" { targets = ["postgres", "seaweedfs", "prometheus", "alertmanager", "nginx", "statsd"] }
target "postgres" {
  context = "tests/cluster/images/postgres"
  tags = ["postgres:17.11"]
}
target "seaweedfs" {
  context = "tests/cluster/images/seaweedfs"
  tags = ["chrislusf/seaweedfs:4.48"]
}
target "prometheus" {
  context = "tests/cluster/images/prometheus"
  tags = ["prom/prometheus:v3.13.3"]
}
target "alertmanager" {
  context = "tests/cluster/images/alertmanager"
  tags = ["prom/alertmanager:v0.34.1"]
}
target "nginx" {
  context = "tests/cluster/images/nginx"
  tags = ["nginxinc/nginx-unprivileged:1.30.5-alpine"]
}
target "statsd" {
  context = "tests/cluster/images/statsd"
  contexts = { binaries = "build/standins" }
  tags = ["prom/statsd-exporter:v0.29.0"]
}

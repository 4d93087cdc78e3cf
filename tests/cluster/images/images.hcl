# docker buildx bake -f tests/cluster/images/images.hcl: the stand-ins, under the names in the charts' values.
group "default" { targets = ["postgres", "seaweedfs", "prometheus", "alertmanager", "nginx", "statsd", "oauth2-proxy"] }
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
# prom/statsd-exporter's interface: /bin/statsd_exporter, user nobody. The program is upstream's own, which bin/test-images installs by Go.
target "statsd" {
  context = "build/standins"
  dockerfile-inline = <<-EOT
    FROM debian:bookworm-slim
    COPY statsd_exporter /bin/statsd_exporter
    USER 65534
    EXPOSE 9102 9125/udp
    ENTRYPOINT ["/bin/statsd_exporter"]
  EOT
  tags = ["prom/statsd-exporter:v0.29.0"]
}
# quay.io/oauth2-proxy/oauth2-proxy's interface: /bin/oauth2-proxy, user nonroot. The program is upstream's own, which bin/login-programs installs by Go.
target "oauth2-proxy" {
  context = "build/login/v7.15.6"
  dockerfile-inline = <<-EOT
    FROM debian:bookworm-slim
    COPY oauth2-proxy /bin/oauth2-proxy
    USER 65532
    EXPOSE 4180
    ENTRYPOINT ["/bin/oauth2-proxy"]
  EOT
  tags = ["quay.io/oauth2-proxy/oauth2-proxy:v7.15.6"]
}

# docker buildx bake -f tests/cluster/images/provider.hcl: the OpenID Connect provider of the login's tests, from what bin/login-programs installs.
group "default" { targets = ["provider"] }
target "provider" {
  context = "build/login"
  dockerfile-inline = <<-EOT
    FROM debian:bookworm-slim
    WORKDIR /provider
    COPY node package.json server.js ./
    COPY node_modules node_modules
    USER 1000
    EXPOSE 9000
    ENTRYPOINT ["./node", "server.js"]
  EOT
  tags = ["phaseflow/test-provider:dev"]
}

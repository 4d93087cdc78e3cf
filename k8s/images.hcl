# docker buildx bake -f k8s/images.hcl: builds all images of phaseflow. REGISTRY and TAG set their names; bin/images sets TAG to a hash of their content.
variable "REGISTRY" { default = "phaseflow" }
variable "TAG" { default = "dev" }
variable "CODE" { default = "" } # the commit, which every model has as a tag
# The base image. `make lock-images` appends its digest to the tag; BASE=name:tag selects another one.
variable "BASE" { default = "python:3.11-slim-bookworm" }

group "default" { targets = ["image"] }
group "environments" { targets = ["environment"] }

target "base" {
  context    = "."
  dockerfile = "k8s/Dockerfile"
}

target "image" {
  inherits   = ["base"]
  matrix     = { component = ["airflow", "tabular", "registry", "serving", "monitor", "portal"] }
  name       = component
  args       = { BASE = BASE, GROUP = component, VERSION = TAG, CODE = CODE }
  tags       = ["${REGISTRY}/${component}:${TAG}"]
}

# Training environments with PyTorch, several GB each. `bin/images environments` builds them for projects that need them.
target "environment" {
  inherits   = ["base"]
  matrix     = { component = ["torch", "language"] }
  name       = component
  args       = { BASE = BASE, GROUP = component, VERSION = TAG, CODE = CODE }
  tags       = ["${REGISTRY}/${component}:${TAG}"]
}

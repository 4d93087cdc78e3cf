# docker buildx bake -f k8s/images.hcl: every image of ours. REGISTRY and TAG name them; PLATFORMS builds for others too.
variable "REGISTRY" { default = "phaseflow" }
variable "TAG" { default = "dev" }
variable "CODE" { default = "" } # the commit, which every model is tagged with
# The base of every image. `make lock-images` writes its digest behind the tag; BASE=name:tag builds on another one.
variable "BASE" { default = "python:3.11-slim-bookworm" }

group "default" { targets = ["image"] }
group "families" { targets = ["family"] }

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

# Training families with PyTorch, several GB each: `bin/images families`, by those who run projects of them.
target "family" {
  inherits   = ["base"]
  matrix     = { component = ["torch", "language"] }
  name       = component
  args       = { BASE = BASE, GROUP = component, VERSION = TAG, CODE = CODE }
  tags       = ["${REGISTRY}/${component}:${TAG}"]
}

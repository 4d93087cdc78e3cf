# docker buildx bake -f k8s/images.hcl: every image of ours. REGISTRY and TAG name them; PLATFORMS builds for others too.
variable "REGISTRY" { default = "phaseflow" }
variable "TAG" { default = "dev" }
variable "CODE" { default = "" } # the commit, which every model is tagged with

group "default" { targets = ["image"] }

target "image" {
  matrix     = { component = ["airflow", "tabular", "registry", "serving", "monitor", "portal"] }
  name       = component
  context    = "."
  dockerfile = "k8s/Dockerfile"
  args       = { GROUP = component, VERSION = TAG, CODE = CODE }
  tags       = ["${REGISTRY}/${component}:${TAG}"]
}

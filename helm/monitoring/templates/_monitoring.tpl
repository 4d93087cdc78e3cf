{{- define "monitoring.secret" -}}
{{ .Values.existingSecret | default (include "phaseflow.name" .) }}
{{- end }}

{{/* monitoring.rules (root): the folder of the generated rules with these windows. */}}
{{- define "monitoring.rules" -}}
{{ ternary "generated/rehearsal/*.yaml" "generated/rules/*.yaml" (eq .Values.windows "rehearsal") }}
{{- end }}

{{/* monitoring.chosen (dict root glob): the generated files of the platform and of the projects that run here, as JSON. */}}
{{- define "monitoring.chosen" -}}
{{- $chosen := dig "projects" list (.root.Values.global | default dict) -}}
{{- $found := list -}}
{{- range $path, $_ := .root.Files.Glob .glob }}
{{- $project := base $path | trimSuffix (ext $path) | trimPrefix "phaseflow-" | replace "-" "_" }}
{{- if or (not $chosen) (has $project (append $chosen "platform")) }}
{{- $found = append $found $path }}
{{- end }}
{{- end }}
{{- toJson $found }}
{{- end }}

{{/* monitoring.content (dict root paths): what the files hold, one behind the other. */}}
{{- define "monitoring.content" -}}
{{- range .paths }}{{ $.root.Files.Get . }}{{ end }}
{{- end }}

{{- define "monitoring.scrape" -}}
{{ ternary "5s" "15s" (eq .Values.windows "rehearsal") }}
{{- end }}

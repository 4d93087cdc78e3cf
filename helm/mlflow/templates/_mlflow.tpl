{{/* mlflow.origin (root): the origin of the pages that a browser sees. */}}
{{- define "mlflow.origin" -}}
{{- $url := include "phaseflow.publicUrl" . | urlParse -}}
{{ $url.scheme }}://{{ $url.host }}
{{- end }}

{{/* mlflow.hosts (root): the names under which requests may come, each with any port: the public one, the Service's, and that of a forwarded
port. MLflow's own default knows neither of the first two. */}}
{{- define "mlflow.hosts" -}}
{{- $name := include "phaseflow.name" . -}}
{{- $names := list (include "phaseflow.publicUrl" . | urlParse).hostname $name -}}
{{- $names = concat $names (list (printf "%s.%s.svc" $name .Release.Namespace) (printf "%s.%s.svc.cluster.local" $name .Release.Namespace)) -}}
{{- $names = concat $names (list "localhost" "127.0.0.1") -}}
{{- range dig "allowedHosts" list (.Values.global | default dict) }}
{{- $names = append $names (ternary (printf "*%s" .) . (hasPrefix "." .)) -}}
{{- end -}}
{{- $hosts := list -}}
{{- range uniq $names }}{{ $hosts = concat $hosts (list . (printf "%s:*" .)) }}{{ end -}}
{{ join "," $hosts }}
{{- end }}

{{- define "monitoring.secret" -}}
{{ .Values.existingSecret | default (include "phaseflow.name" .) }}
{{- end }}

{{/* monitoring.rules (root): the folder of the generated rules with these windows. */}}
{{- define "monitoring.rules" -}}
{{ ternary "generated/rehearsal/*.yaml" "generated/rules/*.yaml" (eq .Values.windows "rehearsal") }}
{{- end }}

{{- define "monitoring.scrape" -}}
{{ ternary "5s" "15s" (eq .Values.windows "rehearsal") }}
{{- end }}

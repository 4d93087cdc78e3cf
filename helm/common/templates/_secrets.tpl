{{/* Secrets that the charts generate. Helm keeps their values by looking them up in the cluster. A tool that renders without the cluster
(Argo CD, `helm template`) would make new ones at each render: it sets `global.generateSecrets` to false, and names Secrets of its own. */}}

{{/* phaseflow.generatedSecrets (root): a row for each Secret that the chart, or a part of the umbrella, generates: the value that names
another, the keys that it needs, and where it is needed. */}}
{{- define "phaseflow.generatedSecrets" -}}
{{- $global := .Values.global | default dict -}}
{{- $values := dict .Chart.Name .Values -}}
{{- if eq .Chart.Name "platform" -}}
{{- range list "airflow" "monitoring" "serving" "storage" "kubeflow-pipelines" -}}
{{- $part := get $.Values . -}}
{{- if $part.enabled }}{{ $_ := set $values . $part }}{{ end -}}
{{- end -}}
{{- end -}}
{{- $rows := list -}}
{{- with $values.airflow -}}
{{- $rows = append $rows (dict "chart" "airflow" "value" "existingSecret" "given" .existingSecret "keys" "airflow_admin_password, airflow_jwt, airflow_fernet, passwords.json") -}}
{{- end -}}
{{- with $values.monitoring -}}
{{- $keys := "hook_token, grafana_admin_password, prometheus_password, prometheus_web.yml, alertmanager_password, alertmanager_web.yml" -}}
{{- $rows = append $rows (dict "chart" "monitoring" "value" "existingSecret" "given" .existingSecret "keys" $keys) -}}
{{- end -}}
{{- with $values.serving -}}
{{- if .feedback.requireToken -}}
{{- $rows = append $rows (dict "chart" "serving" "value" "feedback.existingSecret" "given" .feedback.existingSecret "keys" "feedback_tokens") -}}
{{- end -}}
{{- $rows = append $rows (dict "value" "global.personal.existingSecret" "given" (dig "personal" "existingSecret" "" $global) "keys" "personal_key") -}}
{{- end -}}
{{- with get $values "kubeflow-pipelines" -}}
{{- $rows = append $rows (dict "chart" "kubeflow-pipelines" "value" "mysql.existingSecret" "given" .mysql.existingSecret "keys" "username, password, root_password") -}}
{{- end -}}
{{- with $values.platform -}}
{{- if eq .pipelines.engine "local" -}}
{{- $rows = append $rows (dict "chart" "platform" "value" "pipelines.existingSecret" "given" .pipelines.existingSecret "keys" "engine_token") -}}
{{- end -}}
{{- if .proxy.enabled -}}
{{- $rows = append $rows (dict "chart" "platform" "value" "proxy.existingSecret" "given" .proxy.existingSecret "keys" "proxy_password, htpasswd") -}}
{{- end -}}
{{- end -}}
{{- with $values.storage -}}
{{- if .postgres.enabled -}}
{{- $rows = append $rows (dict "chart" "storage" "value" "postgres.existingSecret" "given" .postgres.existingSecret "keys" "postgres_password, airflow_password, mlflow_password, backup_password") -}}
{{- range $role := list "airflow" "mlflow" "backup" -}}
{{- $given := dig "postgres" "existingSecrets" $role "" $global | default (dig "postgres" "existingSecret" "" $global) -}}
{{- $rows = append $rows (dict "value" (printf "global.postgres.existingSecrets.%s" $role) "given" $given "keys" "pgpass") -}}
{{- end -}}
{{- end -}}
{{- if .s3.enabled -}}
{{- $rows = append $rows (dict "chart" "storage" "value" "s3.existingSecret" "given" .s3.existingSecret "keys" "s3.json") -}}
{{- range $part := list "serving" "steps" "maintenance" "monitor" "portal" "mlflow" "airflow" "kfp" "backup" "restore" "prune" -}}
{{- $given := dig "store" "existingSecrets" $part "" $global | default (dig "store" "existingSecret" "" $global) -}}
{{- $rows = append $rows (dict "value" (printf "global.store.existingSecrets.%s" $part) "given" $given "keys" (ternary "accesskey, secretkey, credentials" "credentials" (eq $part "kfp"))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{ toJson $rows }}
{{- end }}

{{/* phaseflow.checkSecrets (root): an error that names every Secret that is missing where none is generated. */}}
{{- define "phaseflow.checkSecrets" -}}
{{- if and .Chart.IsRoot (not (dig "generateSecrets" true (.Values.global | default dict))) -}}
{{- $missing := list -}}
{{- range include "phaseflow.generatedSecrets" . | fromJsonArray -}}
{{- if not .given -}}
{{- $name := ternary .value (printf "%s.%s" .chart .value) (or (not .chart) (eq (.chart | default "") $.Chart.Name)) -}}
{{- $missing = append $missing (printf "%s (%s)" $name .keys) -}}
{{- end -}}
{{- end -}}
{{- with $missing -}}
{{- fail (printf "global.generateSecrets is false, and these values name no Secret: %s. Create each Secret with the keys in brackets and name it, or set global.generateSecrets to true." (join "; " .)) -}}
{{- end -}}
{{- end -}}
{{- end }}

{{/* phaseflow.generates (dict root given): "true" where the chart makes a Secret, because none is given. */}}
{{- define "phaseflow.generates" -}}
{{- if and (not .given) (dig "generateSecrets" true (.root.Values.global | default dict)) }}true{{ end -}}
{{- end }}

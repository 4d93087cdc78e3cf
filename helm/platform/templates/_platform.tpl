{{/* platform.metadata (dict name select values): of an object that a cloud reads, with the labels and annotations of the values. */}}
{{- define "platform.metadata" -}}
name: {{ .name }}
labels: {{- mergeOverwrite (include "phaseflow.labels" .select | fromYaml) .values.labels | toYaml | nindent 2 }}
{{- with .values.annotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* platform.outsiders (root): the namespaces from which metrics, the retrain hook and the services may be asked, as JSON. */}}
{{- define "platform.outsiders" -}}
{{- $peers := list -}}
{{- range .Values.networkPolicy.allowFrom }}{{ $peers = append $peers (dict "namespaceSelector" .) }}{{ end -}}
{{- if and .Values.monitoring.enabled (dig "operator" "enabled" false .Values.monitoring) -}}
{{- $peers = append $peers (dict "namespaceSelector" (dict "matchLabels" (dict "kubernetes.io/metadata.name" .Values.monitoring.operator.namespace))) -}}
{{- end -}}
{{ toJson $peers }}
{{- end }}

{{/* platform.check: wrong values together, each with its fix. */}}
{{- define "platform.check" -}}
{{- include "phaseflow.checkSecrets" . -}}
{{- include "platform.checkLogin" . -}}
{{- $kfp := index .Values "kubeflow-pipelines" "enabled" -}}
{{- $given := dig "addresses" "pipelines" "" .Values.global -}}
{{- if and (eq .Values.pipelines.engine "kfp") (not $kfp) (not $given) }}
{{- fail "pipelines.engine is \"kfp\", but there is no Kubeflow Pipelines: set kubeflow-pipelines.enabled to true, or global.addresses.pipelines to the address of yours." }}
{{- end }}
{{- if and (ne .Values.pipelines.engine "kfp") $kfp }}
{{- fail "kubeflow-pipelines.enabled is true, but pipelines.engine is \"local\": set pipelines.engine to \"kfp\", or kubeflow-pipelines.enabled to false." }}
{{- end }}
{{- if and .Values.global.store.external (not .Values.global.store.ambientCredentials) (not .Values.global.store.existingSecret) }}
{{- fail "global.store.external is true, but there is no key: name a Secret with the key `credentials` in global.store.existingSecret, or set global.store.ambientCredentials." }}
{{- end }}
{{- $postgres := .Values.global.postgres }}
{{- range $role := list "airflow" "mlflow" }}
{{- if and $postgres.host (not (or $postgres.existingSecret (get $postgres.existingSecrets $role))) }}
{{- fail (printf "global.postgres.host is set, but there is no password of the user %s: name a Secret with the key `pgpass` in global.postgres.existingSecret, or one for this user in global.postgres.existingSecrets.%s." $role $role) }}
{{- end }}
{{- end }}
{{- with $postgres }}
{{- if and (not .host) (not (has .sslMode (list "disable" "prefer"))) }}
{{- fail (printf "global.postgres.sslMode is %q, but the chart's own Postgres has no TLS: set global.postgres.host to the address of yours, or sslMode to prefer." .sslMode) }}
{{- end }}
{{- if and (hasPrefix "verify" .sslMode) (not .caSecret) }}
{{- fail (printf "global.postgres.sslMode is %q, but no authority is known: name a Secret with the key `ca.crt` in global.postgres.caSecret." .sslMode) }}
{{- end }}
{{- if .bootstrap.enabled }}
{{- if not .host }}
{{- fail "global.postgres.bootstrap.enabled is true, but the chart's own Postgres makes its databases itself: set global.postgres.host to the address of yours, or bootstrap.enabled to false." }}
{{- end }}
{{- if not .bootstrap.existingSecret }}
{{- fail "global.postgres.bootstrap.enabled is true, but nobody may create databases: name a Secret with the keys username and password in global.postgres.bootstrap.existingSecret." }}
{{- end }}
{{- end }}
{{- end }}
{{- $open := has .Values.proxy.type (list "NodePort" "LoadBalancer") -}}
{{- if and .Values.proxy.enabled $open (not .Values.proxy.tlsSecret) (not .Values.proxy.allowPlainHTTP) }}
{{- fail (printf "proxy.type is %q without TLS: passwords and requests would cross the network in clear. Name a Secret of type kubernetes.io/tls in proxy.tlsSecret, set proxy.type to ClusterIP behind a proxy of yours that ends TLS, or set proxy.allowPlainHTTP for a machine or network that you trust." .Values.proxy.type) }}
{{- end }}
{{- range $kind := list "gateway" "ingress" }}
{{- $values := get $.Values $kind }}
{{- if $values.enabled }}
{{- if not (or $values.tlsSecret $values.tlsByAnnotation $values.allowPlainHTTP) }}
{{- fail (printf "%s.enabled is true without TLS: passwords and requests would cross the network in clear. Name a Secret of type kubernetes.io/tls in %s.tlsSecret, set %s.tlsByAnnotation where an annotation names the certificate, or set %s.allowPlainHTTP for a network that you trust." $kind $kind $kind $kind) }}
{{- end }}
{{- if $.Values.proxy.tlsSecret }}
{{- fail (printf "%s.enabled and proxy.tlsSecret are both set, but the %s ends TLS and speaks plain HTTP to the reverse proxy: leave proxy.tlsSecret empty." $kind (title $kind)) }}
{{- end }}
{{- if not $.Values.proxy.enabled }}
{{- fail (printf "%s.enabled is true, but there is no reverse proxy to route to: set proxy.enabled to true." $kind) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

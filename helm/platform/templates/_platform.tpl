{{/* platform.check: wrong values together, each with its fix. */}}
{{- define "platform.check" -}}
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
{{- if and .Values.global.postgres.host (not .Values.global.postgres.existingSecret) }}
{{- fail "global.postgres.host is set, but there is no password: name a Secret with the key `pgpass` in global.postgres.existingSecret." }}
{{- end }}
{{- end }}

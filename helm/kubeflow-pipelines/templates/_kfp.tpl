{{/* kfp.store (root): where the object store is, as YAML: url, host, port, secure, bucket, region, secret. */}}
{{- define "kfp.store" -}}
{{- $global := dig "store" dict (.Values.global | default dict) -}}
{{- $region := .Values.store.region | default $global.region | default "us-east-1" -}}
{{- $url := .Values.store.endpoint | default (include "phaseflow.s3Endpoint" .) | default (printf "https://s3.%s.amazonaws.com" $region) | trimSuffix "/" -}}
{{- if not (regexMatch "^https?://[^/]+$" $url) }}
{{- fail (printf "store.endpoint is %q: give scheme and host alone, such as http://minio:9000." $url) }}
{{- end -}}
{{- $parts := urlParse $url -}}
{{- $secure := eq $parts.scheme "https" -}}
{{- $host := splitList ":" $parts.host -}}
url: {{ $url }}
host: {{ first $host }}
port: {{ ternary (last $host) (ternary "443" "80" $secure) (gt (len $host) 1) | quote }}
secure: {{ $secure }}
bucket: {{ .Values.store.bucket | default (include "phaseflow.bucket" .) }}
region: {{ $region }}
# Empty where the pods' own role is used.
secret: {{ .Values.store.existingSecret | default (include "phaseflow.s3Secret" .) | quote }}
{{- end }}

{{- define "kfp.mysqlSecret" -}}
{{ .Values.mysql.existingSecret | default (printf "%s-mysql" .Release.Name) }}
{{- end }}

{{/* kfp.waitMysql (root): an init container that ends when the database answers. */}}
{{- define "kfp.waitMysql" -}}
- name: wait
  image: {{ include "phaseflow.image" (dict "root" . "image" .Values.mysql.image) }}
  command: [sh, -c, 'until mysqladmin ping --silent --connect-timeout=3 --host="$HOST" --port="$PORT"; do sleep 1; done']
  env:
    - {name: HOST, value: {{ .Values.mysql.host | quote }}}
    - {name: PORT, value: {{ .Values.mysql.port | quote }}}
  resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 128Mi}}
{{- end }}

{{/* kfp.waitApi (dict root image): likewise for the API server, by a shell and nc of the part's own image. */}}
{{- define "kfp.waitApi" -}}
- name: wait
  image: {{ include "phaseflow.image" . }}
  command: [sh, -c, "until nc -z -w 2 ml-pipeline 8887; do sleep 1; done"]
  resources: {requests: {cpu: 10m, memory: 16Mi}, limits: {memory: 64Mi}}
{{- end }}

{{/* kfp.account (dict root name component values rules [token]): a ServiceAccount, its Role and their binding. */}}
{{- define "kfp.account" -}}
{{- $labels := include "phaseflow.labels" . -}}
{{ include "phaseflow.serviceAccount" . }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: {{ .name }}
  labels: {{- $labels | nindent 4 }}
rules: {{- toYaml .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: {{ .name }}
  labels: {{- $labels | nindent 4 }}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: {{ .name }}}
subjects: [{kind: ServiceAccount, name: {{ .name }}, namespace: {{ .root.Release.Namespace }}}]
{{- end }}

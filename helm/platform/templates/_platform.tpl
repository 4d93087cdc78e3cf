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

{{/* platform.door (root): nginx's configuration. */}}
{{- define "platform.door" -}}
{{- $release := .Release.Name -}}
map $http_upgrade $connection_upgrade { default upgrade; '' ''; }
map $http_x_forwarded_proto $scheme_outside { default $http_x_forwarded_proto; '' $scheme; }
{{- if .Values.serving.enabled }}
{{- range $project := include "phaseflow.projects" $ | fromJsonArray }}
{{- $service := printf "%s-serving-%s:3000" $release ($project | replace "_" "-") }}
# The same Service many times: what a pod that is gone did not answer another is asked, and nginx asks no peer again. Until the cluster
# knows that it is gone, every second try of two pods meets it: of ten tries in a row one in a thousand does.
upstream serving_{{ $project }} { {{ repeat 10 (printf "server %s max_fails=0; " $service) }}}
{{- end }}
{{- end }}
server_tokens off;
log_format quiet '$remote_addr "$request_method $uri" $status $request_time';
server {
  listen 8080;
  access_log off;
  client_max_body_size 32m;
  proxy_http_version 1.1;
  proxy_set_header Host $http_host;
  proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
  proxy_set_header X-Forwarded-Proto $scheme_outside;
  proxy_set_header Upgrade $http_upgrade;
  proxy_set_header Connection $connection_upgrade;
  proxy_read_timeout 300s;
  # A pod that is going away refuses the connection or breaks it off. A prediction may be asked twice: it has no effect but its log.
  proxy_next_upstream error timeout http_502 non_idempotent;
  proxy_next_upstream_tries 10;
  # A pod that is gone does not even refuse.
  proxy_connect_timeout 1s;
  absolute_redirect off;
  # Every page asks for the door's password, but those that have a login of their own and the services.
  auth_basic phaseflow;
  auth_basic_user_file /etc/phaseflow/door/htpasswd;
  location = /door/healthz { access_log off; return 200 "ok\n"; }
  {{- if .Values.airflow.enabled }}
  location = /airflow { return 301 /airflow/; }
  location /airflow/ { auth_basic off; proxy_pass http://{{ $release }}-airflow:8080; }
  {{- end }}
  {{- if .Values.serving.enabled }}
  # The services are for the world: what they refuse they refuse themselves.
  {{- range $project := include "phaseflow.projects" $ | fromJsonArray }}
  location /serving/{{ $project }}/ { auth_basic off; proxy_pass http://serving_{{ $project }}/{{ $project }}/; }
  location = /serving/{{ $project }}/docs { auth_basic off; proxy_pass http://serving_{{ $project }}/docs; }
  {{- end }}
  {{- with (include "phaseflow.projects" $ | fromJsonArray) }}
  location /serving/ { auth_basic off; proxy_pass http://serving_{{ first . }}/; }
  {{- end }}
  {{- end }}
  {{- if and .Values.monitoring.enabled (dig "grafana" "enabled" true .Values.monitoring) }}
  location /grafana/ { auth_basic off; proxy_pass http://{{ $release }}-grafana:3000; }
  {{- end }}
  # The door's own password stays at the door: nobody behind it needs it.
  {{- if .Values.mlflow.enabled }}
  location = /mlflow { return 301 /mlflow/; }
  location /mlflow/ { proxy_set_header Authorization ""; proxy_set_header Host $http_host; proxy_pass http://{{ $release }}-mlflow:5000; }
  {{- end }}
  {{- if .Values.monitoring.enabled }}
  {{- if dig "prometheus" "enabled" true .Values.monitoring }}
  location /prometheus/ { proxy_set_header Authorization ""; proxy_set_header Host $http_host; proxy_pass http://{{ $release }}-prometheus:9090; }
  {{- end }}
  {{- if dig "alertmanager" "enabled" true .Values.monitoring }}
  location /alertmanager/ { proxy_set_header Authorization ""; proxy_set_header Host $http_host; proxy_pass http://{{ $release }}-alertmanager:9093; }
  {{- end }}
  location /monitor/ { proxy_set_header Authorization ""; proxy_pass http://{{ $release }}-monitor:8085/; }
  {{- end }}
  {{- $kfp := index .Values "kubeflow-pipelines" }}
  {{- if and (eq .Values.pipelines.engine "kfp") $kfp.enabled (dig "ui" "enabled" true $kfp) }}
  location /pipelines/apis/ { proxy_set_header Authorization ""; proxy_pass http://{{ $release }}-pipelines:8888/apis/; }
  location /pipelines/ { proxy_set_header Authorization ""; proxy_pass http://ml-pipeline-ui:80/; }
  {{- else if or (eq .Values.pipelines.engine "local") $kfp.enabled }}
  location /pipelines/ { proxy_set_header Authorization ""; proxy_pass http://{{ $release }}-pipelines:8888/; }
  {{- end }}
  {{- if .Values.portal.enabled }}
  location / { proxy_set_header Authorization ""; proxy_pass http://{{ $release }}-portal:8090; }
  {{- end }}
}
{{- end }}

{{- define "airflow.secret" -}}
{{ .Values.existingSecret | default (include "phaseflow.name" .) }}
{{- end }}

{{/* Every process's settings. Secrets are read from files by commands: no environment holds one. */}}
{{- define "airflow.env" -}}
{{- $address := include "phaseflow.address" (dict "root" . "part" "airflow") -}}
{{- $secret := "/var/lib/phaseflow/secrets" -}}
{{- $settings := dict
  "AIRFLOW_HOME" "/var/lib/phaseflow/airflow"
  "MALLOC_ARENA_MAX" "2"
  "AIRFLOW__CORE__DAGS_FOLDER" "/app/dags"
  "AIRFLOW__CORE__EXECUTOR" .Values.executor
  "AIRFLOW__CORE__PARALLELISM" (.Values.parallelism | int)
  "AIRFLOW__CORE__LOAD_EXAMPLES" "False"
  "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION" "False"
  "AIRFLOW__CORE__FERNET_KEY_CMD" (printf "cat %s/airflow_fernet" $secret)
  "AIRFLOW__CORE__EXECUTION_API_SERVER_URL" (printf "%s/execution/" $address)
  "AIRFLOW__CORE__HOSTNAME_CALLABLE" "airflow.utils.net.get_host_ip_address"
  "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN" (printf "postgresql+psycopg2://airflow@%s/airflow" (include "phaseflow.postgres" .))
  "AIRFLOW__LOGGING__BASE_LOG_FOLDER" "/var/lib/phaseflow/airflow/logs"
  "AIRFLOW__LOGGING__COLORED_CONSOLE_LOG" "False"
  "AIRFLOW__LOGGING__DAG_PROCESSOR_CHILD_PROCESS_LOG_DIRECTORY" "/var/lib/phaseflow/airflow/logs/dag_processor"
  "AIRFLOW__API__BASE_URL" (printf "%s/airflow" (include "phaseflow.publicUrl" .))
  "AIRFLOW__API__WORKERS" 1
  "AIRFLOW__API__SECRET_KEY_CMD" (printf "cat %s/airflow_jwt" $secret)
  "AIRFLOW__API__EXPOSE_CONFIG" "False"
  "AIRFLOW__API__INSTANCE_NAME" "phaseflow"
  "AIRFLOW__API_AUTH__JWT_SECRET_CMD" (printf "cat %s/airflow_jwt" $secret)
  "AIRFLOW__API_AUTH__JWT_ISSUER" "phaseflow"
  "AIRFLOW__SCHEDULER__CATCHUP_BY_DEFAULT" "False"
  "AIRFLOW__SCHEDULER__SCHEDULER_HEALTH_CHECK_THRESHOLD" 30
  "AIRFLOW__SCHEDULER__ORPHANED_TASKS_CHECK_INTERVAL" 15
  "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT" 90
  "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK" "True"
  "AIRFLOW__WORKERS__MAX_FAILED_HEARTBEATS" 30
  "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL" 30
  "AIRFLOW__DAG_PROCESSOR__PARSING_PROCESSES" 1
-}}
{{- if .Values.remoteLogs }}
{{- $settings = merge $settings (dict
  "AIRFLOW__LOGGING__REMOTE_LOGGING" "True"
  "AIRFLOW__LOGGING__REMOTE_BASE_LOG_FOLDER" (printf "s3://%s/airflow-logs" (include "phaseflow.bucket" .))
  "AIRFLOW__LOGGING__REMOTE_LOG_CONN_ID" "object_store"
  "AIRFLOW_CONN_OBJECT_STORE" "aws://") }}
{{- end }}
{{- if eq .Values.executor "KubernetesExecutor" }}
{{- $settings = merge $settings (dict
  "AIRFLOW__KUBERNETES_EXECUTOR__POD_TEMPLATE_FILE" "/etc/phaseflow/worker.yaml"
  "AIRFLOW__KUBERNETES_EXECUTOR__NAMESPACE" .Release.Namespace
  "AIRFLOW__KUBERNETES_EXECUTOR__DELETE_WORKER_PODS" "True") }}
{{- end }}
{{- $exporter := .Values.statsd.address | default (ternary (printf "%s-statsd:9125" (include "phaseflow.name" .)) "" .Values.statsd.enabled) }}
{{- if $exporter }}
{{- $settings = merge $settings (dict
  "AIRFLOW__METRICS__STATSD_ON" "True"
  "AIRFLOW__METRICS__STATSD_HOST" (splitList ":" $exporter | first)
  "AIRFLOW__METRICS__STATSD_PORT" (splitList ":" $exporter | last)) }}
{{- end }}
{{- if include "phaseflow.loginSecret" . }}
{{- $_ := set $settings "AIRFLOW__CORE__AUTH_MANAGER" "dags.auth_manager.ProxyAuthManager" }}
{{- else }}
{{- $settings = merge $settings (dict
  "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS" "admin:admin"
  "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE" "/tmp/passwords.json") }}
{{- end }}
{{- range $name, $value := merge (deepCopy .Values.config) $settings }}
- {name: {{ $name }}, value: {{ $value | toString | quote }}}
{{- end }}
{{ include "phaseflow.postgresEnv" . }}
{{ include "phaseflow.env" . }}
{{- end }}

{{/* airflow.command (dict root run): the passwords where only this user reads them, then Airflow when its database answers. */}}
{{- define "airflow.command" -}}
command: [sh, -c]
args:
  - >-
    install -m 600 /etc/phaseflow/postgres/airflow /tmp/pgpass &&
    install -m 600 /var/lib/phaseflow/secrets/passwords.json /tmp/passwords.json &&
    {{ include "phaseflow.untilPostgres" .root }} &&
    {{ .run }}
{{- end }}

{{- define "airflow.mounts" -}}
- {name: postgres, mountPath: /etc/phaseflow/postgres, readOnly: true}
- {name: templates, mountPath: /etc/phaseflow/pod.yaml, subPath: pod.yaml, readOnly: true}
- {name: templates, mountPath: /etc/phaseflow/maintenance.yaml, subPath: maintenance.yaml, readOnly: true}
{{- if eq .Values.executor "KubernetesExecutor" }}
- {name: templates, mountPath: /etc/phaseflow/worker.yaml, subPath: worker.yaml, readOnly: true}
{{- end }}
{{ include "phaseflow.mounts" (dict "root" . "secrets" true) }}
{{- end }}

{{- define "airflow.volumes" -}}
{{- $hook := include "phaseflow.monitoringSecret" (dict "root" . "given" .Values.hookSecret) -}}
{{- /* A Kubeflow Pipelines of yours asks for no token of ours. */ -}}
{{- $engine := include "phaseflow.engineSecret" (dict "root" . "given" .Values.engineSecret) -}}
- {{- include "phaseflow.postgresVolume" (dict "root" . "roles" (list "airflow")) | nindent 2 }}
- {name: templates, configMap: {name: {{ include "phaseflow.name" . }}}}
{{ include "phaseflow.volumes" (dict "root" . "secrets" (dict (include "airflow.secret" .) (list "airflow_admin_password" "airflow_jwt" "airflow_fernet" "passwords.json") $hook (list "hook_token")) "optional" (dict $engine (list "engine_token"))) }}
{{- end }}

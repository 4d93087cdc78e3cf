{{/* What the charts of the platform share. `global` is the umbrella's; a chart alone gets along without. */}}

{{/* phaseflow.name (root): <release>-<chart>, the name of what a chart makes. */}}
{{- define "phaseflow.name" -}}
{{- if gt (len .Release.Name) 30 }}
{{- fail (printf "The release's name %q has %d characters: a Service's name may have 63, and the longest puts 33 behind it. Take one of at most 30." .Release.Name (len .Release.Name)) }}
{{- end -}}
{{ .Release.Name }}-{{ .Chart.Name }}
{{- end }}

{{/* phaseflow.selector (dict root component) */}}
{{- define "phaseflow.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{/* phaseflow.labels (dict root component) */}}
{{- define "phaseflow.labels" -}}
{{ include "phaseflow.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: phaseflow
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{/* phaseflow.image (dict root image): a third-party image, by digest where one is given, from the mirror where there is one. `mirrors` has
the prefix of one upstream registry, as pull-through caches want it; `mirror` that of all, before the whole name. */}}
{{- define "phaseflow.image" -}}
{{- $images := dig "images" dict (.root.Values.global | default dict) -}}
{{- $name := .image.repository -}}
{{- $parts := splitList "/" $name -}}
{{- $named := and (gt (len $parts) 1) (regexMatch "[.:]|^localhost$" (first $parts)) -}}
{{- $upstream := ternary (first $parts) "docker.io" $named -}}
{{- with get ($images.mirrors | default dict) $upstream -}}
{{- $path := ternary (rest $parts | join "/") $name $named -}}
{{- $name = printf "%s/%s" . (ternary (printf "library/%s" $path) $path (and (eq $upstream "docker.io") (not (contains "/" $path)))) -}}
{{- else -}}
{{- with $images.mirror }}{{ $name = printf "%s/%s" . $name }}{{ end -}}
{{- end -}}
{{ $name }}:{{ .image.tag }}{{ with .image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* phaseflow.own (dict root group): an image of ours, by the group of the lock that it holds. `{group}` stays a placeholder. The charts have the
version of the images that they were made with; the application of some is another. */}}
{{- define "phaseflow.own" -}}
{{- $images := dig "images" dict (.root.Values.global | default dict) -}}
{{ with $images.registry }}{{ . }}/{{ end }}{{ $images.repository | default "phaseflow" }}/{{ .group }}:{{ $images.tag | default .root.Chart.Version }}
{{- end }}

{{- define "phaseflow.pullPolicy" -}}
{{ dig "images" "pullPolicy" "IfNotPresent" (.Values.global | default dict) }}
{{- end }}

{{/* phaseflow.budget (dict root component name replicas): of several replicas one stays while nodes are drained. */}}
{{- define "phaseflow.budget" -}}
{{- if gt (int .replicas) 1 }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .name }}
  labels: {{- include "phaseflow.labels" . | nindent 4 }}
spec:
  minAvailable: 1
  selector:
    matchLabels: {{- include "phaseflow.selector" . | nindent 6 }}
{{- end }}
{{- end }}

{{/* phaseflow.test (dict root name spec [user]): a pod of `helm test`. */}}
{{- define "phaseflow.test" -}}
apiVersion: v1
kind: Pod
{{ include "phaseflow.podTemplate" (merge (dict
  "component" "test"
  "metadata" (dict "name" .name)
  "annotations" (dict "helm.sh/hook" "test" "helm.sh/hook-delete-policy" "before-hook-creation,hook-succeeded")) .) }}
{{- end }}

{{/* phaseflow.asks (dict root urls secrets): a test that asks each address. The umbrella's own test asks every part at once.
A URL may be followed by a space and the name of a secret: the password of the user `phaseflow`. */}}
{{- define "phaseflow.asks" -}}
{{- if .root.Chart.IsRoot }}
{{- include "phaseflow.test" (dict "root" .root "name" (printf "%s-answers" (include "phaseflow.name" .root)) "spec" (include "phaseflow.asking" .)) }}
{{- end }}
{{- end }}

{{/* phaseflow.ask: Python's `ask(url, login)`, the status of a GET request or its error. Network policies refuse the first connections of a new
pod until they know its address. */}}
{{- define "phaseflow.ask" -}}
import httpx, sys, time
end = time.monotonic() + 30
def ask(url, login):
    while True:
        try:
            return httpx.get(url, auth=login, timeout=20).status_code
        except httpx.HTTPError as error:
            if not isinstance(error, httpx.ConnectError) or time.monotonic() > end:
                return error
        time.sleep(1)
{{- end }}

{{- define "phaseflow.asking" -}}
restartPolicy: Never
containers:
  - name: answers
    image: {{ include "phaseflow.own" (dict "root" .root "group" "portal") }}
    command: [python, -c]
    args:
      - |
        {{- include "phaseflow.ask" . | nindent 8 }}
        wrong = 0
        for argument in sys.argv[1:]:
            url, _, secret = argument.partition(" ")
            login = ("phaseflow", open(f"/var/lib/phaseflow/secrets/{secret}").read().strip()) if secret else None
            status = ask(url, login)
            wrong += status != 200
            print(f"{url} {status}")
        sys.exit(wrong)
      {{- range .urls }}
      - {{ . | quote }}
      {{- end }}
    resources: {requests: {cpu: 20m, memory: 64Mi}, limits: {memory: 256Mi}}
    volumeMounts:
      - {name: tmp, mountPath: /tmp}
      {{- if .secrets }}
      - {name: secrets, mountPath: /var/lib/phaseflow/secrets, readOnly: true}
      {{- end }}
volumes:
  - {name: tmp, emptyDir: {}}
  {{- include "phaseflow.secretsVolume" . | nindent 2 }}
{{- end }}

{{/* phaseflow.kept (dict root secret key): the secret's value as it is in the cluster, else a new one; upgrades never change it. */}}
{{- define "phaseflow.kept" -}}
{{- $found := lookup "v1" "Secret" .root.Release.Namespace .secret -}}
{{- $data := ($found | default dict).data | default dict -}}
{{- if hasKey $data .key }}{{ index $data .key | b64dec }}{{ else }}{{ randAlphaNum (.length | default 32) }}{{ end }}
{{- end }}

{{/* phaseflow.engineSecret (dict root given): the Secret with the pipeline engine's engine_token. */}}
{{- define "phaseflow.engineSecret" -}}
{{ .given | default (printf "%s-pipelines" .root.Release.Name) }}
{{- end }}

{{/* phaseflow.monitoringSecret (dict root given): the Secret with the monitoring's tokens and passwords. */}}
{{- define "phaseflow.monitoringSecret" -}}
{{ .given | default (printf "%s-monitoring" .root.Release.Name) }}
{{- end }}

{{/* phaseflow.loginSecret (root): the Secret with the key identity_secret, by which a part knows the reverse proxy that asks for the one login;
empty where each page asks for its own password. */}}
{{- define "phaseflow.loginSecret" -}}
{{- $oidc := dig "auth" "oidc" dict (.Values.global | default dict) -}}
{{- if $oidc.enabled }}{{ $oidc.existingSecret }}{{ end -}}
{{- end }}

{{/* phaseflow.personalSecret (root): the Secret with the key personal_key, which hashes personal columns. */}}
{{- define "phaseflow.personalSecret" -}}
{{ dig "personal" "existingSecret" "" (.Values.global | default dict) | default (printf "%s-personal" .Release.Name) }}
{{- end }}

{{/* phaseflow.address (dict root part): where a part of the platform answers inside the cluster. */}}
{{- define "phaseflow.address" -}}
{{- $given := dig "addresses" .part "" (.root.Values.global | default dict) -}}
{{- $release := .root.Release.Name -}}
{{- $own := dict
  "airflow" (printf "http://%s-airflow:8080/airflow" $release)
  "mlflow" (printf "http://%s-mlflow:5000/mlflow" $release)
  "pipelines" (printf "http://%s-pipelines:8888" $release)
  "serving" (printf "http://%s-serving-{project}:3000" $release)
  "monitor" (printf "http://%s-monitor:8085" $release)
  "evidently" (printf "http://%s-evidently:8086" $release)
  "prometheus" (printf "http://%s-prometheus:9090/prometheus" $release)
  "alertmanager" (printf "http://%s-alertmanager:9093/alertmanager" $release)
  "grafana" (printf "http://%s-grafana:3000/grafana" $release)
  "portal" (printf "http://%s-portal:8090" $release) -}}
{{- $given | default (get $own .part) -}}
{{- end }}

{{/* phaseflow.publicUrl (root): the reverse proxy, as a browser sees it. */}}
{{- define "phaseflow.publicUrl" -}}
{{ dig "publicUrl" "" (.Values.global | default dict) | default "http://localhost:30080" | trimSuffix "/" }}
{{- end }}

{{/* phaseflow.part (root, or dict root part): whose key of the object store a pod has. Each chart has one part; others are named. */}}
{{- define "phaseflow.part" -}}
{{- if hasKey . "part" }}{{ .part }}{{ else -}}
{{- $root := .root | default . -}}
{{- get (dict "monitoring" "monitor" "kubeflow-pipelines" "kfp" "platform" "steps") $root.Chart.Name | default $root.Chart.Name }}
{{- end }}
{{- end }}

{{/* phaseflow.s3Secret (root, or dict root part): the Secret with the key `credentials`, an AWS credentials file, of the part alone;
empty where the pod's own role is used, and for the part "" that uses no object. */}}
{{- define "phaseflow.s3Secret" -}}
{{- $root := .root | default . -}}
{{- $store := dig "store" dict ($root.Values.global | default dict) -}}
{{- $part := include "phaseflow.part" . -}}
{{- if ne $part "" }}
{{- $default := ternary (printf "%s-s3" $root.Release.Name) (printf "%s-s3-%s" $root.Release.Name $part) ($store.external | default false) -}}
{{- dig "existingSecrets" $part "" $store | default (ternary "" ($store.existingSecret | default $default) ($store.ambientCredentials | default false)) }}
{{- end }}
{{- end }}

{{- define "phaseflow.s3Endpoint" -}}
{{- $store := dig "store" dict (.Values.global | default dict) -}}
{{- if hasKey $store "endpoint" }}{{ $store.endpoint | default "" }}{{ end -}}
{{- if and (not $store.endpoint) (not $store.external) }}http://{{ .Release.Name }}-s3:8333{{ end -}}
{{- end }}

{{- define "phaseflow.bucket" -}}
{{ dig "store" "bucket" "phaseflow" (.Values.global | default dict) }}
{{- end }}

{{/* phaseflow.backupBucket (root): the bucket of the chart's own store that the backups' keys may use, and no other. */}}
{{- define "phaseflow.backupBucket" -}}
{{ dig "store" "backupBucket" "" (.Values.global | default dict) | default (printf "%s-backup" (include "phaseflow.bucket" .)) }}
{{- end }}

{{/* phaseflow.projects (root): the projects that run here, as JSON: those that global.projects or the chart's own `projects` names, else all. */}}
{{- define "phaseflow.projects" -}}
{{- $all := .Files.Get "projects.yaml" | fromYamlArray -}}
{{- $global := dig "projects" list (.Values.global | default dict) -}}
{{- $chosen := $global | default .Values.projects -}}
{{- range $chosen }}
{{- if not (has . $all) }}
{{- fail (printf "%sprojects names %q, which is no project of this chart. It has: %s. Correct the name, or run `make generate` after adding the project." (ternary "global." "" (ne (len $global) 0)) . (join ", " $all)) }}
{{- end }}
{{- end }}
{{- $chosen | default $all | toJson }}
{{- end }}

{{/* phaseflow.env (root, or dict root part): what every process of ours knows of the others. Addresses only: secrets are files. */}}
{{- define "phaseflow.env" -}}
{{- $root := .root | default . -}}
{{- $secret := include "phaseflow.s3Secret" . -}}
{{- with $root -}}
{{- $store := dig "store" dict (.Values.global | default dict) -}}
{{- $drift := dig "drift" dict (.Values.global | default dict) -}}
- {name: PHASEFLOW_STORE, value: "s3://{{ include "phaseflow.bucket" . }}/store"}
{{- with include "phaseflow.s3Endpoint" . }}
- {name: AWS_ENDPOINT_URL, value: {{ . | quote }}}
{{- end }}
- {name: AWS_REGION, value: {{ $store.region | default "us-east-1" | quote }}}
- {name: AWS_DEFAULT_REGION, value: {{ $store.region | default "us-east-1" | quote }}}
{{- if $secret }}
- {name: AWS_SHARED_CREDENTIALS_FILE, value: /etc/phaseflow/s3/credentials}
{{- end }}
{{- /* Airflow mounts it in the steps of a pipeline that Kubeflow Pipelines runs. */}}
{{- if eq .Chart.Name "airflow" }}
{{- with include "phaseflow.s3Secret" (dict "root" . "part" "steps") }}
- {name: PHASEFLOW_S3_SECRET, value: {{ . }}}
{{- end }}
{{- end }}
{{- range list "airflow" "mlflow" "pipelines" "serving" "monitor" "evidently" "prometheus" "alertmanager" "grafana" "portal" }}
- {name: PHASEFLOW_{{ upper . }}_URL, value: {{ include "phaseflow.address" (dict "root" $root "part" .) | quote }}}
{{- end }}
{{- /* A service runs one of them, and says so itself. */}}
{{- with dig "projects" list (.Values.global | default dict) }}
{{- if ne $root.Chart.Name "serving" }}
- {name: PHASEFLOW_ONLY, value: {{ join "," . | quote }}}
{{- end }}
{{- end }}
- {name: PHASEFLOW_PUBLIC_URL, value: {{ include "phaseflow.publicUrl" . | quote }}}
{{- with dig "evidentlyUrl" "" (.Values.global | default dict) }}
- {name: PHASEFLOW_EVIDENTLY_PAGE, value: {{ . | quote }}}
{{- end }}
- {name: PHASEFLOW_LOG_FORMAT, value: json}
- {name: PHASEFLOW_HOST, value: 0.0.0.0}
- {name: PHASEFLOW_ALLOWED_HOSTS, value: {{ include "phaseflow.allowedHosts" . | quote }}}
{{- with dig "allowedOrigins" list (.Values.global | default dict) }}
- {name: PHASEFLOW_ALLOWED_ORIGINS, value: {{ join "," . | quote }}}
{{- end }}
- {name: PHASEFLOW_IMAGES, value: {{ include "phaseflow.own" (dict "root" . "group" "{group}") | quote }}}
{{- range $name, $key := dict "windowSeconds" "WINDOW_SECONDS" "minimumRows" "MINIMUM_ROWS" "cooldownSeconds" "COOLDOWN_SECONDS" }}
{{- with index $drift $name }}
- {name: PHASEFLOW_DRIFT_{{ $key }}, value: {{ . | int | quote }}}
{{- end }}
{{- end }}
{{- with dig "monitorSeconds" 0 (.Values.global | default dict) }}
- {name: PHASEFLOW_MONITOR_SECONDS, value: {{ . | int | quote }}}
{{- end }}
{{- if dig "offline" false (.Values.global | default dict) }}
- {name: PHASEFLOW_OFFLINE, value: "1"}
{{- end }}
{{- with dig "kfp" "namespace" "" (.Values.global | default dict) }}
- {name: PHASEFLOW_KFP_NAMESPACE, value: {{ . }}}
{{- if dig "kfp" "ui" true $root.Values.global }}
- {name: PHASEFLOW_KFP_PAGE, value: "1"}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* phaseflow.mounts, phaseflow.volumes (dict root part secrets optional claim): a place to write, the part's key of the object store, the secrets a process
reads. `secrets` and `optional` are lists of keys by the name of their Secret; a pod starts without those of `optional` that do not exist.
`claim` is the volume of the place to write; "template" where a StatefulSet's template makes it. */}}
{{- define "phaseflow.mounts" -}}
- {name: tmp, mountPath: /tmp}
- {name: home, mountPath: /var/lib/phaseflow}
{{- if include "phaseflow.s3Secret" . }}
- {name: s3, mountPath: /etc/phaseflow/s3, readOnly: true}
{{- end }}
{{- if or .secrets .optional }}
- {name: secrets, mountPath: /var/lib/phaseflow/secrets, readOnly: true}
{{- end }}
{{- end }}

{{- define "phaseflow.volumes" -}}
- {name: tmp, emptyDir: {}}
{{- if eq (.claim | default "") "template" }}
{{- else if .claim }}
- {name: home, persistentVolumeClaim: {claimName: {{ .claim }}}}
{{- else }}
- {name: home, emptyDir: {}}
{{- end }}
{{- with include "phaseflow.s3Secret" . }}
- {name: s3, secret: {secretName: {{ . }}, items: [{key: credentials, path: credentials}]}}
{{- end }}
{{- include "phaseflow.secretsVolume" . }}
{{- end }}

{{- define "phaseflow.secretsVolume" }}
{{- if or .secrets .optional }}
- name: secrets
  projected:
    sources:
      {{- range $optional, $secrets := dict "" .secrets "true" .optional }}
      {{- range $secret, $keys := $secrets }}
      - secret:
          name: {{ $secret }}
          {{- if $optional }}
          optional: true
          {{- end }}
          items:
            {{- range $keys }}
            - {key: {{ . }}, path: {{ . }}}
            {{- end }}
      {{- end }}
      {{- end }}
{{- end }}
{{- end }}

{{/* phaseflow.allowedHosts (root): names in a request's Host besides those of the addresses: the Services' full names, and the reverse proxy's.
A Service's name with the namespace alone (`x-monitor.dev`) is left out: a namespace may be a public top-level domain, in which anyone may
register that name. */}}
{{- define "phaseflow.allowedHosts" -}}
{{- $space := .Release.Namespace -}}
{{- $own := list (printf "%s-proxy" .Release.Name) (printf ".%s.svc" $space) (printf ".%s.svc.cluster.local" $space) -}}
{{- concat $own (dig "allowedHosts" list (.Values.global | default dict)) | uniq | join "," -}}
{{- end }}

{{/* phaseflow.postgres (root): host:port of the database. */}}
{{- define "phaseflow.postgres" -}}
{{- $postgres := dig "postgres" dict (.Values.global | default dict) -}}
{{ $postgres.host | default (printf "%s-postgres" .Release.Name) }}:{{ $postgres.port | default 5432 | int }}
{{- end }}

{{/* phaseflow.postgresSecret (dict root role): the Secret with the key `pgpass`, libpq's password file with the line of the role. */}}
{{- define "phaseflow.postgresSecret" -}}
{{- $postgres := dig "postgres" dict (.root.Values.global | default dict) -}}
{{- $default := ternary (printf "%s-postgres" .root.Release.Name) (printf "%s-postgres-%s" .root.Release.Name .role) (ne ($postgres.host | default "") "") -}}
{{ dig "existingSecrets" .role "" $postgres | default $postgres.existingSecret | default $default }}
{{- end }}

{{/* phaseflow.postgresEnv (root): the variables that libpq reads. Without a timeout a connection to a database that is being moved hangs for
two minutes, and the process with it. */}}
{{- define "phaseflow.postgresEnv" -}}
{{- $postgres := dig "postgres" dict (.Values.global | default dict) -}}
- {name: PGPASSFILE, value: /tmp/pgpass}
- {name: PGCONNECT_TIMEOUT, value: "5"}
- {name: PGSSLMODE, value: {{ $postgres.sslMode | default "prefer" }}}
{{- if $postgres.caSecret }}
- {name: PGSSLROOTCERT, value: /etc/phaseflow/postgres/ca.crt}
{{- end }}
{{- end }}

{{/* phaseflow.postgresVolume (dict root roles): the volume with libpq's password file of each role, by the role's name, and with the certificates
of the authorities. */}}
{{- define "phaseflow.postgresVolume" -}}
name: postgres
projected:
  sources:
    {{- range .roles }}
    - secret: {name: {{ include "phaseflow.postgresSecret" (dict "root" $.root "role" .) }}, items: [{key: pgpass, path: {{ . }}}]}
    {{- end }}
    {{- with dig "postgres" "caSecret" "" ($.root.Values.global | default dict) }}
    - secret: {name: {{ . }}, items: [{key: ca.crt, path: ca.crt}]}
    {{- end }}
{{- end }}

{{/* phaseflow.postgresRoles (dict roles folder): SQL for psql that makes the roles and the databases of Airflow and MLflow, and sets the passwords
in the folder's files `<role>_password`. A second time it changes nothing. */}}
{{- define "phaseflow.postgresRoles" -}}
{{- $roles := .roles -}}
SET client_min_messages = warning;
SELECT rolsuper AS superuser FROM pg_roles WHERE rolname = current_user \gset
\if :superuser
    SET log_min_error_statement = 'panic'; -- else a statement that fails is logged, with the password in it
\endif
{{- range $roles }}
\set {{ . }}_password `cat {{ $.folder }}/{{ . }}_password`
{{- end }}
SELECT format('CREATE ROLE %I LOGIN', name) FROM unnest(ARRAY['{{ join "', '" $roles }}']) AS name
  WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = name) \gexec
{{- range $roles }}
ALTER ROLE {{ . }} PASSWORD :'{{ . }}_password';
{{- end }}
\if :superuser
\else
    GRANT airflow, mlflow TO CURRENT_USER; -- only a member may give a role a database
\endif
SELECT format('CREATE DATABASE %I OWNER %I', name, name) FROM unnest(ARRAY['airflow', 'mlflow']) AS name
  WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = name) \gexec
REVOKE ALL ON DATABASE airflow, mlflow FROM PUBLIC;
{{- if has "backup" $roles }}
GRANT pg_read_all_data TO backup;
GRANT CONNECT ON DATABASE airflow, mlflow TO backup;
{{- end }}
{{- end }}

{{/* phaseflow.untilPostgres (root): shell that goes on when the database answers: a pod that waits looks better than one that crashes. Any
server may accept a connection, also that of another network while the Service is new; only Postgres answers its SSLRequest with S or N. */}}
{{- define "phaseflow.untilPostgres" -}}
{{- $where := include "phaseflow.postgres" . | splitList ":" -}}
until python -c 'import socket, sys; server = socket.create_connection(("{{ first $where }}", {{ last $where }}), 3); server.sendall(bytes.fromhex("0000000804d2162f")); sys.exit(server.recv(1) not in (b"S", b"N"))' 2>/dev/null; do echo "waits for the database {{ join ":" $where }}"; sleep 1; done
{{- end }}

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

{{/* monitoring.web (dict root secret part password): the part's web configuration with the password's bcrypt hash. The hash is salted, so that
one that exists is taken again while the password is the same: an upgrade changes no secret. */}}
{{- define "monitoring.web" -}}
{{- $data := (lookup "v1" "Secret" .root.Release.Namespace .secret | default dict).data | default dict -}}
{{- $key := printf "%s_web.yml" .part -}}
{{- if and (hasKey $data $key) (eq (index $data (printf "%s_password" .part) | default "" | b64dec) .password) -}}
{{ index $data $key | b64dec }}
{{- else -}}
basic_auth_users: {phaseflow: {{ htpasswd "phaseflow" .password | splitList ":" | last | quote }}}
{{- end }}
{{- end }}

{{/* monitoring.login (part): how a client of Prometheus' libraries logs in, as YAML in one line. */}}
{{- define "monitoring.login" -}}
{username: phaseflow, password_file: /etc/phaseflow/logins/{{ . }}_password}
{{- end }}

{{/* monitoring.probes (dict ready healthy), each a command: the login is in a file, so that no pod's specification holds a password. Programs start slowly and
take memory: they are asked seldom. */}}
{{- define "monitoring.probes" -}}
startupProbe:
  exec: {command: {{ .ready | toJson }}}
  periodSeconds: 3
  timeoutSeconds: 10
  failureThreshold: 100
readinessProbe:
  exec: {command: {{ .ready | toJson }}}
  periodSeconds: 15
  timeoutSeconds: 10
livenessProbe:
  exec: {command: {{ .healthy | toJson }}}
  periodSeconds: 60
  timeoutSeconds: 20
  failureThreshold: 3
{{- end }}

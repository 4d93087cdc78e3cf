{{/* platform.parts: every kind of pod of the release, by the labels of its chart and component, with the ports on which it listens. */}}
{{- define "platform.parts" -}}
proxy: {chart: platform, ports: [8080]}
login: {chart: platform, ports: [4180]}
pipelines: {chart: platform, ports: [8888]}
databases: {chart: platform}
backup: {chart: platform}
restore: {chart: platform}
prune: {chart: platform}
test: {chart: platform}
api-server: {chart: airflow, ports: [8080]}
scheduler: {chart: airflow, ports: [8793]}
dag-processor: {chart: airflow}
triggerer: {chart: airflow, ports: [8794]}
migrate: {chart: airflow}
clean: {chart: airflow}
worker: {chart: airflow}
steps: {chart: airflow}
maintenance: {chart: airflow}
statsd: {chart: airflow, ports: [9102], datagrams: [9125]}
mlflow: {chart: mlflow, component: server, ports: [5000]}
serving: {chart: serving, component: "", ports: [3000]}
prometheus: {chart: monitoring, ports: [9090]}
alertmanager: {chart: monitoring, ports: [9093]}
grafana: {chart: monitoring, ports: [3000]}
monitor: {chart: monitoring, ports: [8085]}
evidently: {chart: monitoring, ports: [8086]}
postgres: {chart: storage, ports: [5432]}
s3: {chart: storage, ports: [8333]}
portal: {chart: portal, ports: [8090]}
ml-pipeline: {chart: kubeflow-pipelines, ports: [8888, 8887]}
ml-pipeline-ui: {chart: kubeflow-pipelines, ports: [3000]}
ml-pipeline-persistenceagent: {chart: kubeflow-pipelines}
ml-pipeline-scheduledworkflow: {chart: kubeflow-pipelines}
workflow-controller: {chart: kubeflow-pipelines}
metadata-grpc: {chart: kubeflow-pipelines, ports: [8080]}
metadata-envoy: {chart: kubeflow-pipelines, ports: [9090]}
mysql: {chart: kubeflow-pipelines, ports: [3306]}
run: {chart: kubeflow-pipelines}
kfp-test: {chart: kubeflow-pipelines, component: test}
{{- end }}

{{/* platform.flows: who calls which part. The network policies follow from it, and nothing else is let through. */}}
{{- define "platform.flows" -}}
# What Airflow runs of its own.
{{- $airflow := "api-server, scheduler, dag-processor, triggerer, migrate, clean, worker" }}
pipelines: [scheduler, triggerer, worker, steps, maintenance, monitor, portal, prometheus, proxy, test]
ml-pipeline: [scheduler, triggerer, worker, steps, maintenance, monitor, portal, proxy, test, kfp-test, run, ml-pipeline-ui, ml-pipeline-persistenceagent, ml-pipeline-scheduledworkflow]
ml-pipeline-ui: [proxy]
metadata-grpc: [ml-pipeline, metadata-envoy, run]
metadata-envoy: [ml-pipeline-ui]
mysql: [ml-pipeline, metadata-grpc, backup, restore]
api-server: [scheduler, dag-processor, triggerer, worker, monitor, portal, proxy, test]
scheduler: [api-server]
triggerer: [api-server]
statsd: [{{ $airflow }}, prometheus]
mlflow: [mlflow, scheduler, worker, steps, maintenance, pipelines, run, serving, monitor, portal, proxy, test]
serving: [scheduler, worker, steps, monitor, portal, prometheus, proxy]
monitor: [scheduler, worker, steps, alertmanager, prometheus, portal, proxy, test]
evidently: [portal, test]
prometheus: [grafana, monitor, portal, proxy, test]
alertmanager: [prometheus, monitor, portal, proxy, test]
grafana: [portal, proxy, test]
portal: [portal, proxy, test]
login: [proxy]
postgres: [{{ $airflow }}, mlflow, databases, backup, restore]
s3: [{{ $airflow }}, steps, maintenance, pipelines, run, ml-pipeline, ml-pipeline-ui, mlflow, serving, monitor, evidently, portal, backup, restore, prune]
# Beyond the release: Kubernetes' API, the sources that projects declare, and the OpenID Connect provider.
kubernetes: [scheduler, triggerer, worker, run, ml-pipeline, ml-pipeline-ui, ml-pipeline-persistenceagent, ml-pipeline-scheduledworkflow, workflow-controller]
sources: [steps, pipelines, run]
provider: [login]
{{- end }}

{{/* platform.elsewhere (root): ports of the parts that run outside of the release, as JSON: part to port. */}}
{{- define "platform.elsewhere" -}}
{{- $ports := dict -}}
{{- $names := dict "airflow" "api-server" "pipelines" (ternary "ml-pipeline" "pipelines" (eq .Values.pipelines.engine "kfp")) -}}
{{- range $name, $address := .Values.global.addresses -}}
{{- $url := urlParse $address -}}
{{- $port := splitList ":" $url.host | last -}}
{{- $_ := set $ports (get $names $name | default $name) (ternary (int $port) (ternary 443 80 (eq $url.scheme "https")) (contains ":" $url.host)) -}}
{{- end -}}
{{- if include "platform.login" . -}}
{{- $url := urlParse .Values.global.auth.oidc.issuer -}}
{{- $port := splitList ":" $url.host | last -}}
{{- $_ := set $ports "provider" (ternary (int $port) (ternary 443 80 (eq $url.scheme "https")) (contains ":" $url.host)) -}}
{{- end -}}
{{- if .Values.global.postgres.host }}{{ $_ := set $ports "postgres" (int .Values.global.postgres.port) }}{{ end -}}
{{- $kfp := index .Values "kubeflow-pipelines" -}}
{{- if not (dig "mysql" "enabled" true $kfp) }}{{ $_ := set $ports "mysql" (int $kfp.mysql.port) }}{{ end -}}
{{- with .Values.global.store -}}
{{- if or .external .endpoint -}}
{{- $url := urlParse (.endpoint | default "https://s3") -}}
{{- $port := splitList ":" $url.host | last -}}
{{- $_ := set $ports "s3" (ternary (int $port) (ternary 443 80 (eq $url.scheme "https")) (contains ":" $url.host)) -}}
{{- end -}}
{{- end -}}
{{ toJson $ports }}
{{- end }}

{{/* platform.runs (dict root part chart): "true" where the release has pods of the part. */}}
{{- define "platform.runs" -}}
{{- $values := .root.Values -}}
{{- if eq .chart "platform" -}}
{{- $off := dict
  "pipelines" (ne $values.pipelines.engine "local")
  "proxy" (not $values.proxy.enabled)
  "login" (not (include "platform.login" .root))
  "databases" (not $values.global.postgres.bootstrap.enabled) -}}
{{- range list "backup" "restore" "prune" }}{{ $_ := set $off . (not $values.backup.enabled) }}{{ end -}}
{{- if not (get $off .part) }}true{{ end -}}
{{- else -}}
{{- $chart := get $values .chart -}}
{{- if and $chart.enabled (dig .part "enabled" true $chart) }}true{{ end -}}
{{- end -}}
{{- end }}

{{/* platform.podsOf (dict root part): the selector of the part's pods. */}}
{{- define "platform.podsOf" -}}
{{- $part := get (include "platform.parts" . | fromYaml) .part -}}
{{- $component := ternary $part.component .part (hasKey $part "component") -}}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/name: {{ $part.chart }}
{{- with $component }}
app.kubernetes.io/component: {{ . }}
{{- end }}
{{- end }}

{{/* platform.ports (ports datagrams): as a NetworkPolicy has them, as JSON. */}}
{{- define "platform.ports" -}}
{{- $list := list -}}
{{- range .ports }}{{ $list = append $list (dict "port" (int .) "protocol" "TCP") }}{{ end -}}
{{- range .datagrams }}{{ $list = append $list (dict "port" (int .) "protocol" "UDP") }}{{ end -}}
{{ toJson $list }}
{{- end }}

{{/* platform.ingressOf (dict root part): who calls the part, as JSON. */}}
{{- define "platform.ingressOf" -}}
{{- $root := .root -}}
{{- $part := get (include "platform.parts" . | fromYaml) .part -}}
{{- $ports := include "platform.ports" $part | fromJsonArray -}}
{{- $rules := list -}}
{{- if eq .part "proxy" -}}
{{- $rules = append $rules (dict "ports" $ports) -}}
{{- else if $ports -}}
{{- $peers := list -}}
{{- range get (include "platform.flows" . | fromYaml) .part -}}
{{- $peers = append $peers (dict "podSelector" (dict "matchLabels" (include "platform.podsOf" (dict "root" $root "part" .) | fromYaml))) -}}
{{- end -}}
{{- if has .part (list "serving" "monitor") }}{{ $peers = concat $peers (include "platform.outsiders" $root | fromJsonArray) }}{{ end -}}
{{- $rules = append $rules (dict "from" $peers "ports" $ports) -}}
{{- end -}}
{{ concat $rules (dig .part "ingress" list $root.Values.networkPolicy.extra) | default list | toJson }}
{{- end }}

{{/* platform.egressOf (dict root part): whom the part calls, as JSON. */}}
{{- define "platform.egressOf" -}}
{{- $root := .root -}}
{{- $part := .part -}}
{{- $parts := include "platform.parts" . | fromYaml -}}
{{- $elsewhere := include "platform.elsewhere" .root | fromJson -}}
{{- $policy := .root.Values.networkPolicy -}}
{{- /* Names: clusters have their DNS server under several labels and addresses. */ -}}
{{- $rules := list (dict "ports" (include "platform.ports" (dict "ports" (list 53 5353) "datagrams" (list 53 5353)) | fromJsonArray)) -}}
{{- range $server, $clients := include "platform.flows" . | fromYaml -}}
{{- if not (has $part $clients) -}}
{{- else if eq $server "kubernetes" -}}
{{- $rules = append $rules (dict "ports" (include "platform.ports" (dict "ports" $policy.kubernetesPorts) | fromJsonArray)) -}}
{{- else if eq $server "sources" -}}
{{- $blocks := list -}}
{{- range $policy.sources }}{{ $blocks = append $blocks (dict "ipBlock" .) }}{{ end -}}
{{- if and $blocks (not $root.Values.global.offline) -}}
{{- $rules = append $rules (dict "to" $blocks "ports" (include "platform.ports" (dict "ports" (list 80 443)) | fromJsonArray)) -}}
{{- end -}}
{{- else if hasKey $elsewhere $server -}}
{{- $rules = append $rules (dict "ports" (include "platform.ports" (dict "ports" (list (get $elsewhere $server))) | fromJsonArray)) -}}
{{- else -}}
{{- $peer := dict "podSelector" (dict "matchLabels" (include "platform.podsOf" (dict "root" $root "part" $server) | fromYaml)) -}}
{{- $rules = append $rules (dict "to" (list $peer) "ports" (include "platform.ports" (get $parts $server) | fromJsonArray)) -}}
{{- end -}}
{{- /* A cloud's roles are had from an address of the node. */ -}}
{{- if and (eq $server "s3") (has $part $clients) $root.Values.global.store.ambientCredentials -}}
{{- $rules = append $rules (dict "to" (list (dict "ipBlock" (dict "cidr" "169.254.0.0/16")))) -}}
{{- end -}}
{{- end -}}
{{- $alertmanager := $root.Values.monitoring.alertmanager | default dict -}}
{{- if and (eq $part "alertmanager") (or $alertmanager.receivers $alertmanager.existingSecret) -}}
{{- $rules = append $rules (dict "ports" (include "platform.ports" (dict "ports" $policy.receiverPorts) | fromJsonArray)) -}}
{{- end -}}
{{ concat $rules (dig .part "egress" list $policy.extra) | toJson }}
{{- end }}

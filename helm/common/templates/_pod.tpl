{{/* The one template that makes pods. What an installation adds to every pod (`global.pod`) or to those of one part (the part's `pod`) is
read here alone. */}}

{{/* phaseflow.podTemplate (dict root component spec [values account user token spread labels annotations metadata]): metadata and specification
of a pod, by the restricted Pod Security Standard.

spec        the pod's own specification, as YAML; its containers name no pull policy and no security context
values      the part's values, whose `pod` goes over `global.pod`; the chart's where absent
account     its ServiceAccount; the namespace's where absent
user        its user and group; 1000 where absent
token       whether it asks Kubernetes' API
spread      whether replicas are put on different nodes where there are several
labels, annotations, metadata       what its metadata have besides */}}
{{- define "phaseflow.podTemplate" -}}
{{- $given := include "phaseflow.podValues" (dict "root" .root "values" (.values | default .root.Values)) | fromJson -}}
{{- $spec := fromYaml .spec -}}
{{- with $spec.Error }}{{ fail . }}{{ end -}}
{{- $container := dict "imagePullPolicy" (include "phaseflow.pullPolicy" .root) "securityContext" (dict "allowPrivilegeEscalation" false "readOnlyRootFilesystem" true "capabilities" (dict "drop" (list "ALL"))) -}}
{{- $containers := list -}}
{{- range $spec.containers }}{{ $containers = append $containers (include "phaseflow.extended" (dict "container" . "given" $given) | fromJson | merge (deepCopy $container)) }}{{ end -}}
{{- /* Those of the installation come first: ours may need what they fetch. */ -}}
{{- $first := list -}}
{{- range $given.initContainers }}{{ $first = append $first (merge . (deepCopy $container)) }}{{ end -}}
{{- range $spec.initContainers }}{{ $first = append $first (include "phaseflow.extended" (dict "container" . "given" $given) | fromJson | merge (deepCopy $container)) }}{{ end -}}
{{- $own := dict
  "containers" $containers
  "automountServiceAccountToken" (.token | default false)
  "enableServiceLinks" false
  "securityContext" (include "phaseflow.podSecurity" (dict "root" .root "user" .user) | fromJson) -}}
{{- with $first }}{{ $_ := set $own "initContainers" . }}{{ end -}}
{{- with include "phaseflow.replaced" (dict "list" ($spec.volumes | default list) "by" $given.volumes "key" "name") | fromJsonArray }}{{ $_ := set $own "volumes" . }}{{ end -}}
{{- with .account }}{{ $_ := set $own "serviceAccountName" . }}{{ end -}}
{{- with include "phaseflow.pullSecrets" .root | fromJsonArray }}{{ $_ := set $own "imagePullSecrets" . }}{{ end -}}
{{- if .spread -}}
{{- $_ := set $own "topologySpreadConstraints" (list (dict "maxSkew" 1 "topologyKey" "kubernetes.io/hostname" "whenUnsatisfiable" "ScheduleAnyway" "labelSelector" (dict "matchLabels" (include "phaseflow.selector" . | fromYaml)))) -}}
{{- end -}}
{{- $labels := mergeOverwrite (include "phaseflow.labels" . | fromYaml) (.labels | default dict) $given.labels -}}
{{- $metadata := merge (dict "labels" $labels) (.metadata | default dict) -}}
{{- with mergeOverwrite (deepCopy (.annotations | default dict)) $given.annotations }}{{ $_ := set $metadata "annotations" . }}{{ end -}}
{{- dict "metadata" $metadata "spec" (mergeOverwrite $spec $own (include "phaseflow.scheduling" $given | fromJson) (dict "securityContext" $given.securityContext)) | toYaml -}}
{{- end }}

{{/* phaseflow.podValues (dict root values): `global.pod` with the part's `pod` over it, as JSON. Of maps the part's keys win, of lists its
entries of the same name; the rest of a list is kept. */}}
{{- define "phaseflow.podValues" -}}
{{- $result := dict -}}
{{- range $layer := list (dig "pod" dict (.root.Values.global | default dict)) (.values.pod | default dict) -}}
{{- range $key := list "labels" "annotations" "nodeSelector" "securityContext" -}}
{{- $_ := set $result $key (mergeOverwrite (get $result $key | default dict) (get $layer $key | default dict | deepCopy)) -}}
{{- end -}}
{{- range $key, $by := dict "extraEnv" "name" "envFrom" "" "volumes" "name" "volumeMounts" "mountPath" "initContainers" "name" "tolerations" "" -}}
{{- $_ := set $result $key (include "phaseflow.replaced" (dict "list" (get $result $key | default list) "by" (get $layer $key | default list) "key" $by) | fromJsonArray) -}}
{{- end -}}
{{- range $key := list "affinity" "topologySpreadConstraints" "priorityClassName" -}}
{{- with get $layer $key }}{{ $_ := set $result $key . }}{{ end -}}
{{- end -}}
{{- end -}}
{{ toJson $result }}
{{- end }}

{{/* phaseflow.scheduling (values of podValues): the fields of a pod that say where it runs, as JSON; those that are empty are left out. */}}
{{- define "phaseflow.scheduling" -}}
{{- $fields := dict -}}
{{- range $key := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" "priorityClassName" -}}
{{- with get $ $key }}{{ $_ := set $fields $key . }}{{ end -}}
{{- end -}}
{{ toJson $fields }}
{{- end }}

{{/* phaseflow.extended (dict container given): the container with the environment and mounts of podValues, as JSON. */}}
{{- define "phaseflow.extended" -}}
{{- $container := deepCopy .container -}}
{{- $given := .given -}}
{{- range $field, $from := dict "env" "extraEnv" "envFrom" "envFrom" "volumeMounts" "volumeMounts" -}}
{{- $key := get (dict "env" "name" "volumeMounts" "mountPath") $field -}}
{{- with include "phaseflow.replaced" (dict "list" (get $container $field | default list) "by" (get $given $from) "key" $key) | fromJsonArray }}{{ $_ := set $container $field . }}{{ end -}}
{{- end -}}
{{ toJson $container }}
{{- end }}

{{/* phaseflow.replaced (dict list by key): the list without the entries whose key is in `by`, then `by`; as JSON. */}}
{{- define "phaseflow.replaced" -}}
{{- $key := .key -}}
{{- $names := list -}}
{{- range .by }}{{ $names = append $names (get . $key) }}{{ end -}}
{{- $result := list -}}
{{- range .list }}{{ if or (not $key) (not (has (get . $key) $names)) }}{{ $result = append $result . }}{{ end }}{{ end -}}
{{ concat $result (.by | default list) | toJson }}
{{- end }}

{{/* phaseflow.podSecurity (dict root user): the security context of a pod, as JSON; without ids where the cluster gives each namespace its own. */}}
{{- define "phaseflow.podSecurity" -}}
{{- $context := dict "runAsNonRoot" true "seccompProfile" (dict "type" "RuntimeDefault") -}}
{{- if dig "fixedUserIds" true (.root.Values.global | default dict) -}}
{{- $user := .user | default 1000 -}}
{{- $context = merge $context (dict "runAsUser" $user "runAsGroup" $user "fsGroup" $user "fsGroupChangePolicy" "OnRootMismatch") -}}
{{- end -}}
{{ toJson $context }}
{{- end }}

{{/* phaseflow.pullSecrets (root): references to the registry's Secrets, as JSON. */}}
{{- define "phaseflow.pullSecrets" -}}
{{- $secrets := list -}}
{{- range dig "images" "pullSecrets" list (.Values.global | default dict) }}{{ $secrets = append $secrets (dict "name" .) }}{{ end -}}
{{ toJson $secrets }}
{{- end }}

{{/* phaseflow.serviceAccount (dict root name component [values token]): the part's own account, which a cloud may give a role by its annotations. */}}
{{- define "phaseflow.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ .name }}
  labels: {{- include "phaseflow.labels" . | nindent 4 }}
  {{- $own := dig "serviceAccount" "annotations" dict (.values | default .root.Values | merge dict) }}
  {{- with mergeOverwrite (dig "serviceAccount" "annotations" dict (.root.Values.global | default dict) | deepCopy) $own }}
  annotations: {{- toYaml . | nindent 4 }}
  {{- end }}
automountServiceAccountToken: {{ .token | default false }}
{{- end }}

{{/* phaseflow.storageClass (dict root given): the storage class of a volume claim; the cluster's default where neither the part nor the installation names one. */}}
{{- define "phaseflow.storageClass" -}}
{{- with .given | default (dig "storageClass" "" (.root.Values.global | default dict)) }}
storageClassName: {{ . }}
{{- end }}
{{- end }}

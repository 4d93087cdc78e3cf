{{/* storage.policy (dict root part access): the part's policy, in JSON. */}}
{{- define "storage.policy" -}}
{{- $actions := dict
  "read" (list "s3:GetObject")
  "write" (list "s3:PutObject" "s3:AbortMultipartUpload" "s3:ListMultipartUploadParts")
  "delete" (list "s3:DeleteObject") -}}
{{- $buckets := dict "objects" (include "phaseflow.bucket" .root) "backups" (include "phaseflow.backupBucket" .root) -}}
{{- $pipelines := .root.Values.s3.pipelinesPrefix | trimAll "/" -}}
{{- $statements := list -}}
{{- range $kind, $access := .access -}}
{{- $arn := printf "arn:aws:s3:::%s" (get $buckets $kind) -}}
{{- range $may, $patterns := $access -}}
{{- $keys := list -}}
{{- range $patterns }}{{ $keys = append $keys (replace "{pipelines}" $pipelines .) }}{{ end -}}
{{- if eq $may "list" -}}
{{- $statement := dict "Effect" "Allow" "Action" (list "s3:ListBucket") "Resource" (list $arn) -}}
{{- if has "*" $keys -}}
{{- $_ := set $statement "Action" (list "s3:ListBucket" "s3:GetBucketLocation") -}}
{{- else -}}
{{- $_ := set $statement "Condition" (dict "StringLike" (dict "s3:prefix" $keys)) -}}
{{- end -}}
{{- $statements = append $statements $statement -}}
{{- else -}}
{{- $resources := list -}}
{{- range $keys }}{{ $resources = append $resources (printf "%s/%s" $arn .) }}{{ end -}}
{{- $statements = append $statements (dict "Effect" "Allow" "Action" (get $actions $may) "Resource" $resources) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{ dict "Version" "2012-10-17" "Statement" $statements | toJson }}
{{- end }}

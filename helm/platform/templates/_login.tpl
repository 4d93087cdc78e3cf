{{/* One login: oauth2-proxy logs a person in at the OpenID Connect provider and keeps the session in a cookie. The reverse proxy asks it about
every request (`auth_request`), with the groups whose role the request needs. The reverse proxy alone knows the roles. */}}

{{/* platform.login (root): "true" where pages ask for the one login. */}}
{{- define "platform.login" -}}
{{- if and .Values.proxy.enabled .Values.global.auth.oidc.enabled }}true{{ end -}}
{{- end }}

{{/* platform.groupsFor (dict root role): the groups of the role and of those above it, as JSON. */}}
{{- define "platform.groupsFor" -}}
{{- $roles := .root.Values.global.auth.oidc.roles -}}
{{- $groups := $roles.admin -}}
{{- if ne .role "admin" }}{{ $groups = concat $groups $roles.operator }}{{ end -}}
{{- if eq .role "viewer" }}{{ $groups = concat $groups $roles.viewer }}{{ end -}}
{{ toJson $groups }}
{{- end }}

{{/* platform.session (root): the name of the session's cookie. A browser takes one with the prefix from this host and by https alone. */}}
{{- define "platform.session" -}}
{{ ternary "__Host-phaseflow_session" "phaseflow_session" (hasPrefix "https:" (include "phaseflow.publicUrl" .)) }}
{{- end }}

{{/* platform.roles: which role a request needs, by method and normalised path. What is not listed is the administrator's: an address that a
later version of a part adds is closed until somebody has looked at it. */}}
{{- define "platform.roles" -}}
map "$request_method $uri" $role_of_request {
  default admin;
  '~^(GET|HEAD|OPTIONS) ' viewer;
  # MLflow reads by POST where a filter is too long for an address.
  '~^POST /mlflow/(ajax-)?api/[23]\.0/mlflow/(experiments|runs|logged-models|datasets|issues|traces)/search$' viewer;
  '~^POST /mlflow/(ajax-)?api/2\.0/mlflow/experiments/search-datasets$' viewer;
  '~^POST /mlflow/(ajax-)?api/2\.0/mlflow/registered-models/get-latest-versions$' viewer;
  '~^POST /mlflow/(ajax-)?api/3\.0/mlflow/traces/(batchGetInfos|calculate-filter-correlation|metrics)$' viewer;
  '~^POST /mlflow/graphql$' viewer;
  # Promotion is an alias; descriptions and tags belong to it.
  '~^POST /mlflow/(ajax-)?api/2\.0/mlflow/registered-models/(alias|set-tag)$' operator;
  '~^POST /mlflow/(ajax-)?api/2\.0/mlflow/model-versions/(set-tag|transition-stage)$' operator;
  '~^PATCH /mlflow/(ajax-)?api/2\.0/mlflow/(registered-models|model-versions)/update$' operator;
  '~^POST /mlflow/(ajax-)?api/2\.0/mlflow/(runs/(set-tag|update)|experiments/set-experiment-tag)$' operator;
  # Kubeflow Pipelines' page reads ML Metadata by gRPC, which is POST. A run is started, ended and put away.
  '~^POST /pipelines/ml_metadata\.MetadataStoreService/Get[A-Za-z]+$' viewer;
  '~^POST /pipelines/apis/v(1|2)beta1/(runs|recurringruns|experiments)$' operator;
  '~^POST /pipelines/apis/v(1|2)beta1/(runs|recurringruns|experiments)/[^/]+(:|/)(terminate|retry|archive|unarchive|enable|disable)$' operator;
  '~^POST /prometheus/api/v1/(query|query_range|query_exemplars|series|labels|format_query|parse_query)$' viewer;
  '~^POST /alertmanager/api/v2/silences$' operator;
  '~^DELETE /alertmanager/api/v2/silence/[^/]+$' operator;
}
{{- end }}

{{/* platform.loginMaps (root): what the server's locations know of a session. */}}
{{- define "platform.loginMaps" -}}
{{- $oidc := .Values.global.auth.oidc -}}
{{- $default := ternary "" $oidc.defaultRole (eq $oidc.defaultRole "none") -}}
{{ include "platform.roles" . }}
# Programs send the proxy's password, or a token to the parts with a login of their own: they need no session.
map $http_authorization $password_realm { default off; '~*^basic' phaseflow; }
map $http_authorization $has_password { default ''; '~*^basic' 1; }
map $http_authorization $has_token { default ''; '~*^bearer ' 1; }
# The session must have one of these groups, or be anybody's; a location that names no role is closed.
map $needed_role $session_query {
  default 'allowed_groups=%00';
  {{- $ranks := dict "none" 0 "viewer" 1 "operator" 2 "admin" 3 }}
  {{- range $role := list "viewer" "operator" "admin" }}
  {{- if le (get $ranks $role) (get $ranks $oidc.defaultRole) }}
  {{ $role }} '';
  {{- else }}
  {{ $role }} 'allowed_groups={{ include "platform.groupsFor" (dict "root" $ "role" $role) | fromJsonArray | join "," | urlquery }}';
  {{- end }}
  {{- end }}
}
map "$has_password,$session_groups," $role {
  default '{{ $default }}';
  '~^1,' admin;
  {{- range $role := list "admin" "operator" "viewer" }}
  {{- range get $oidc.roles $role }}
  '~,{{ regexQuoteMeta . }},' {{ $role }};
  {{- end }}
  {{- end }}
}
map "$has_password$session_user" $user { default $session_user; 1 admin; }
map $role $grafana_role { default ''; viewer Viewer; operator Editor; admin Admin; }
# A page is sent to the login; a script or a program gets an error.
map "$request_method $http_accept" $is_page { default ''; '~^GET .*text/html' 1; }
{{- end }}

{{/* platform.loginServer (root): what every location of the server inherits. */}}
{{- define "platform.loginServer" -}}
auth_basic $password_realm;
auth_request /proxy/session;
auth_request_set $session_user $upstream_http_x_auth_request_email;
auth_request_set $session_groups $upstream_http_x_auth_request_groups;
error_page 401 = @login;
{{- end }}

{{/* platform.loginLocations (root): the login, and the question about a session. */}}
{{- define "platform.loginLocations" -}}
{{- $login := printf "http://%s-login:4180" .Release.Name -}}
{{- $logout := .Values.global.auth.oidc.logoutUrl -}}
location = /proxy/session {
  internal;
  if ($needs_no_session) { return 200; }
  set $args $session_query;
  proxy_pass_request_body off;
  proxy_set_header Content-Length "";
  proxy_set_header Host $http_host;
  proxy_set_header Authorization "";
  proxy_pass {{ $login }}/oauth2/auth;
}
location /oauth2/ {
  {{- include "platform.open" . | nindent 2 }}
  limit_req zone=pages burst={{ .Values.proxy.limits.pagesBurst }} nodelay;
  proxy_set_header Host $http_host;
  proxy_set_header Authorization "";
  proxy_set_header X-Auth-Request-Redirect "";
  proxy_pass {{ $login }};
}
location @login {
  {{- include "platform.open" . | nindent 2 }}
  default_type application/json;
  if ($has_password) { return 401 '{"error": {"field": null, "problem": "The password is wrong", "fix": "Send the user admin with the secret proxy_password."}}'; }
  if ($is_page = '') { return 401 '{"error": {"field": null, "problem": "There is no session, or it has ended", "fix": "Open {{ include "phaseflow.publicUrl" . }} in the browser and log in, or send the password as a program."}}'; }
  rewrite ^ /oauth2/start? break;
  proxy_set_header Host $http_host;
  proxy_set_header Authorization "";
  proxy_set_header X-Auth-Request-Redirect $request_uri;
  proxy_pass {{ $login }};
}
location = /logout {
  {{- include "platform.open" . | nindent 2 }}
  return 302 /oauth2/sign_out?rd={{ $logout | default "/proxy/logged-out" | urlquery }};
}
location = /proxy/logged-out {
  {{- include "platform.open" . | nindent 2 }}
  default_type text/html;
  return 200 '<!doctype html><title>Logged out</title><p>You are logged out of phaseflow. <a href="/">Log in</a>';
}
{{- end }}

{{/* platform.checkLogin (root): wrong values of the login, each with its fix. */}}
{{- define "platform.checkLogin" -}}
{{- $oidc := .Values.global.auth.oidc -}}
{{- if $oidc.enabled }}
{{- range $key := list "issuer" "clientId" "existingSecret" }}
{{- if not (get $oidc $key) }}
{{- fail (printf "global.auth.oidc.enabled is true, but global.auth.oidc.%s is empty: set it, as docs/how-to/one-login.md says." $key) }}
{{- end }}
{{- end }}
{{- if not .Values.proxy.enabled }}
{{- fail "global.auth.oidc.enabled is true, but there is no reverse proxy to ask for the login: set proxy.enabled to true." }}
{{- end }}
{{- if not .Values.networkPolicy.enabled }}
{{- fail "global.auth.oidc.enabled is true without network policies: every pod of the cluster could call the parts around the login. Set networkPolicy.enabled to true." }}
{{- end }}
{{- if and (not $oidc.roles.admin) (ne $oidc.defaultRole "admin") }}
{{- fail "global.auth.oidc.roles.admin is empty: nobody could delete or configure. Name the administrators' group." }}
{{- end }}
{{- range $role, $groups := $oidc.roles }}
{{- range $groups }}
{{- if not (regexMatch "^[A-Za-z0-9 ._:/@+=-]+$" .) }}
{{- fail (printf "global.auth.oidc.roles.%s names the group %q: only letters, digits, spaces and ._:/@+=- can be compared. Use the group's id, or rename it." $role .) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

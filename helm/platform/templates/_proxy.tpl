{{/* platform.nginx: the main file, as the image has it but for the number of connections: a thousand slow clients would hold all of the image's.
Everything that is written is in /tmp. */}}
{{- define "platform.nginx" -}}
worker_processes auto;
error_log /dev/stderr notice;
pid /tmp/nginx.pid;
events { worker_connections 16384; }
http {
  proxy_temp_path /tmp/proxy_temp;
  client_body_temp_path /tmp/client_temp;
  fastcgi_temp_path /tmp/fastcgi_temp;
  uwsgi_temp_path /tmp/uwsgi_temp;
  scgi_temp_path /tmp/scgi_temp;
  include /etc/nginx/mime.types;
  default_type application/octet-stream;
  sendfile on;
  include /etc/nginx/conf.d/*.conf;
}
{{- end }}

{{/* platform.proxy (root): nginx's configuration. Passwords are in files that it includes: a ConfigMap holds none. */}}
{{- define "platform.proxy" -}}
{{- $release := .Release.Name -}}
{{- $limits := .Values.proxy.limits -}}
# One connection for one request: a connection that is kept stays with its pod, so that a new replica would get nothing, and one to a node that
# is gone would be waited for. Newer versions of nginx keep them by default.
map $http_upgrade $connection_upgrade { default upgrade; '' close; }
map $http_x_forwarded_proto $scheme_outside { default $http_x_forwarded_proto; '' $scheme; }
# A browser that has come by TLS once comes by nothing else for a year.
map $scheme_outside $strict_transport { default ''; https 'max-age=31536000'; }
# Headers that the part behind the proxy has not set itself.
map $upstream_http_x_content_type_options $content_type_options { default ''; '' nosniff; }
map $upstream_http_referrer_policy $referrer_policy { default ''; '' same-origin; }
map "$upstream_http_content_security_policy$upstream_http_x_frame_options" $frame_ancestors { default ''; '' "frame-ancestors 'self'"; }
map $status $retry_after { default ''; 429 1; }
# Browsers send the proxy's password by themselves, also for a page of another site: such a request is refused before it is asked for one.
# The scheme is not compared, since TLS may end before the proxy.
map "$http_origin|$http_host" $foreign_origin { default 1; '~^\|' ''; '~*^https?://([^|]+)\|\1$' ''; }
map "$request_method|$http_sec_fetch_site" $cross_site { default ''; '~^(GET|HEAD|OPTIONS)\|' ''; '~*\|cross-site$' 1; }
map "$foreign_origin$cross_site" $foreign_page { default 1; '' ''; }
# A browser sends the proxy's password with everything under this host: parts with a login of their own get tokens alone.
map $http_authorization $token { default $http_authorization; '~*^basic' ''; }
# Only what sends a password is counted as a login.
map $request_method $login_address { default ''; POST $binary_remote_addr; }
{{- if include "platform.login" . }}
{{ include "platform.loginMaps" . }}
{{- end }}
{{- with .Values.proxy.trustedProxies }}
# Who the client is, says the proxy before the proxy.
real_ip_header X-Forwarded-For;
real_ip_recursive on;
{{- range . }}
set_real_ip_from {{ . }};
{{- end }}
{{- end }}
limit_req_zone $binary_remote_addr zone=requests:10m rate={{ $limits.requestsPerSecond }}r/s;
limit_req_zone $binary_remote_addr zone=pages:10m rate={{ $limits.pagesPerSecond }}r/s;
limit_req_zone $login_address zone=logins:10m rate={{ $limits.loginsPerMinute }}r/m;
limit_conn_zone $binary_remote_addr zone=connections:10m;
limit_req_status 429;
limit_conn_status 429;
limit_req_log_level warn;
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
  listen 8080{{ if .Values.proxy.tlsSecret }} ssl{{ end }};
  {{- if .Values.proxy.tlsSecret }}
  ssl_certificate /etc/phaseflow/tls/tls.crt;
  ssl_certificate_key /etc/phaseflow/tls/tls.key;
  ssl_protocols TLSv1.2 TLSv1.3;
  # Plain HTTP on this port.
  error_page 497 =301 https://$http_host$request_uri;
  {{- end }}
  access_log off;
  client_max_body_size 32m;
  # A client that sends a byte now and then holds a connection no longer than this.
  client_header_timeout 10s;
  client_body_timeout 15s;
  send_timeout 30s;
  keepalive_timeout 65s;
  reset_timedout_connection on;
  large_client_header_buffers 4 16k;
  limit_conn connections {{ $limits.connections }};
  # A wrong password costs its sender a second, which holds one of its connections.
  auth_delay 1s;
  add_header Strict-Transport-Security $strict_transport always;
  add_header X-Content-Type-Options $content_type_options always;
  add_header Referrer-Policy $referrer_policy always;
  add_header Content-Security-Policy $frame_ancestors always;
  add_header Retry-After $retry_after always;
  error_page 403 @foreign;
  error_page 429 @too_many;
  proxy_http_version 1.1;
  {{- include "platform.forwarded" (dict "root" .) | nindent 2 }}
  proxy_set_header Authorization $token;
  proxy_read_timeout 300s;
  # A pod that is going away refuses the connection or breaks it off. A prediction may be asked twice: it has no effect but its log.
  proxy_next_upstream error timeout http_502 non_idempotent;
  proxy_next_upstream_tries 10;
  # A pod that is gone does not even refuse.
  proxy_connect_timeout 1s;
  absolute_redirect off;
  auth_basic_user_file /etc/phaseflow/proxy/htpasswd;
  {{- if include "platform.login" . }}
  # Every page asks for a session, or for the proxy's password if a program sends one; the services do not.
  {{- include "platform.loginServer" . | nindent 2 }}
  {{- include "platform.loginLocations" . | nindent 2 }}
  {{- else }}
  # Every page asks for the proxy's password, but those that have a login of their own and the services.
  auth_basic phaseflow;
  {{- end }}
  location = /proxy/healthz {
    {{- include "platform.open" . | nindent 4 }}
    return 200 "ok\n";
  }
  location @foreign {
    {{- include "platform.open" . | nindent 4 }}
    default_type application/json;
    {{- if include "platform.login" . }}
    if ($foreign_page = '') { return 403 '{"error": {"field": null, "problem": "Your role may not do this", "fix": "It needs the role $needed_role: ask who manages the groups of global.auth.oidc.roles, or log in as somebody else after /logout."}}'; }
    {{- end }}
    return 403 '{"error": {"field": null, "problem": "A page of another site sent this request", "fix": "Send it from a page under this address, or from a program."}}';
  }
  location @too_many {
    {{- include "platform.open" . | nindent 4 }}
    default_type application/json;
    return 429 '{"error": {"field": null, "problem": "Too many requests from this address", "fix": "Send them again later and slower; proxy.limits has the limits."}}';
  }
  {{- if .Values.airflow.enabled }}
  location = /airflow { return 301 /airflow/; }
  location /airflow/ {
    {{- include "platform.ownLogin" (dict "root" . "part" "airflow") | nindent 4 }}
    proxy_pass http://{{ $release }}-airflow:8080;
  }
  {{- /* With one login, programs alone send a password. */}}
  location {{ ternary "~ ^/airflow/auth/token(/cli)?$" "/airflow/auth/" (not (empty (include "platform.login" .))) }} {
    {{- include "platform.open" . | nindent 4 }}
    limit_req zone=logins burst={{ $limits.loginsBurst }} nodelay;
    proxy_pass http://{{ $release }}-airflow:8080;
  }
  {{- end }}
  {{- if .Values.serving.enabled }}
  # The services are for the world: what they refuse they refuse themselves. Their metrics and health are for the cluster alone.
  location ~ ^/serving/(.*/)?(metrics|healthz|readyz|livez)(/|$) {
    {{- include "platform.open" . | nindent 4 }}
    return 404;
  }
  {{- range $project := include "phaseflow.projects" $ | fromJsonArray }}
  location /serving/{{ $project }}/ {
    {{- include "platform.open" $ | nindent 4 }}
    limit_req zone=requests burst={{ $limits.requestsBurst }} nodelay;
    proxy_pass http://serving_{{ $project }}/{{ $project }}/;
  }
  location = /serving/{{ $project }}/docs {
    {{- include "platform.open" $ | nindent 4 }}
    limit_req zone=requests burst={{ $limits.requestsBurst }} nodelay;
    proxy_pass http://serving_{{ $project }}/docs;
  }
  {{- end }}
  {{- with (include "phaseflow.projects" $ | fromJsonArray) }}
  location /serving/ {
    {{- include "platform.open" $ | nindent 4 }}
    limit_req zone=requests burst={{ $limits.requestsBurst }} nodelay;
    proxy_pass http://serving_{{ first . }}/;
  }
  {{- end }}
  {{- end }}
  {{- if and .Values.monitoring.enabled (dig "grafana" "enabled" true .Values.monitoring) }}
  location /grafana/ {
    {{- include "platform.ownLogin" (dict "root" . "part" "grafana") | nindent 4 }}
    proxy_pass http://{{ $release }}-grafana:3000;
  }
  {{- if not (include "platform.login" .) }}
  location = /grafana/login {
    auth_basic off;
    limit_req zone=logins burst={{ $limits.loginsBurst }} nodelay;
    proxy_pass http://{{ $release }}-grafana:3000;
  }
  {{- end }}
  {{- end }}
  {{- if .Values.mlflow.enabled }}
  location = /mlflow { return 301 /mlflow/; }
  location /mlflow/ {
    {{- include "platform.page" (dict "root" .) | nindent 4 }}
    proxy_set_header Authorization "";
    proxy_pass http://{{ $release }}-mlflow:5000/mlflow/;
  }
  {{- end }}
  {{- if .Values.monitoring.enabled }}
  # The proxy logs in to these two, so that a person does so once.
  {{- if dig "prometheus" "enabled" true .Values.monitoring }}
  location /prometheus/ {
    {{- include "platform.page" (dict "root" .) | nindent 4 }}
    include /tmp/logins/prometheus.conf;
    proxy_pass http://{{ $release }}-prometheus:9090/prometheus/;
  }
  {{- end }}
  {{- if dig "alertmanager" "enabled" true .Values.monitoring }}
  location /alertmanager/ {
    {{- include "platform.page" (dict "root" .) | nindent 4 }}
    include /tmp/logins/alertmanager.conf;
    proxy_pass http://{{ $release }}-alertmanager:9093/alertmanager/;
  }
  {{- end }}
  location /monitor/ {
    {{- include "platform.page" (dict "root" .) | nindent 4 }}
    proxy_set_header Authorization "";
    proxy_pass http://{{ $release }}-monitor:8085/;
  }
  {{- end }}
  {{- $kfp := index .Values "kubeflow-pipelines" }}
  {{- if and (eq .Values.pipelines.engine "kfp") $kfp.enabled (dig "ui" "enabled" true $kfp) }}
  location /pipelines/apis/ {
    {{- include "platform.page" (dict "root" .) | nindent 4 }}
    proxy_set_header Authorization "";
    proxy_pass http://{{ $release }}-pipelines:8888/apis/;
  }
  location /pipelines/ {
    {{- include "platform.page" (dict "root" .) | nindent 4 }}
    proxy_set_header Authorization "";
    proxy_pass http://ml-pipeline-ui:80/;
  }
  {{- else if or (eq .Values.pipelines.engine "local") $kfp.enabled }}
  location /pipelines/ {
    {{- include "platform.page" (dict "root" .) | nindent 4 }}
    {{- if eq .Values.pipelines.engine "local" }}
    # Who starts runs must send the engine's token, for which there is no room beside the proxy's password.
    if ($request_method !~ ^(GET|HEAD)$) { return 405; }
    {{- end }}
    proxy_set_header Authorization "";
    proxy_pass http://{{ $release }}-pipelines:8888/;
  }
  {{- end }}
  {{- if .Values.portal.enabled }}
  location / {
    {{- include "platform.page" (dict "root" . "part" "portal") | nindent 4 }}
    proxy_set_header Authorization "";
    proxy_pass http://{{ $release }}-portal:8090;
  }
  {{- end }}
}
{{- end }}

{{/* platform.forwarded (dict root [part]): what a part behind the proxy is told of the request as it came from outside; with one login also who
asks, where the part judges by that. A location that sets one header inherits none, so it is included wherever another is set. */}}
{{- define "platform.forwarded" -}}
proxy_set_header Host $http_host;
proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
proxy_set_header X-Forwarded-Host $http_host;
proxy_set_header X-Forwarded-Proto $scheme_outside;
proxy_set_header Upgrade $http_upgrade;
proxy_set_header Connection $connection_upgrade;
{{- if include "platform.login" .root }}
# No part gets the session, with which it could ask every other one; nor what a client says of itself.
proxy_set_header Cookie "";
{{- if has .part (list "airflow" "portal") }}
include /tmp/logins/identity.conf;
proxy_set_header X-Phaseflow-User $user;
proxy_set_header X-Phaseflow-Role $role;
{{- else }}
proxy_set_header X-Phaseflow-Identity "";
proxy_set_header X-Phaseflow-User "";
proxy_set_header X-Phaseflow-Role "";
{{- end }}
{{- /* Grafana believes these of whoever reaches it, which is the proxy alone by the network policies. */}}
proxy_set_header X-WEBAUTH-USER {{ ternary "$user" `""` (eq .part "grafana") }};
proxy_set_header X-WEBAUTH-ROLE {{ ternary "$grafana_role" `""` (eq .part "grafana") }};
{{- end }}
{{- end }}

{{/* platform.page (dict root [part]): what every page behind the proxy's login begins with. Each sets the header Authorization itself. */}}
{{- define "platform.page" -}}
if ($foreign_page) { return 403; }
{{- if include "platform.login" .root }}
set $needed_role $role_of_request;
set $needs_no_session $has_password;
{{- end }}
limit_req zone=pages burst={{ .root.Values.proxy.limits.pagesBurst }} nodelay;
{{ include "platform.forwarded" . }}
{{- end }}

{{/* platform.ownLogin (dict root part): what the pages begin with of a part that has a login of its own. With one login it is told who asks, and
judges by the role itself; programs send it tokens. */}}
{{- define "platform.ownLogin" -}}
auth_basic off;
limit_req zone=pages burst={{ .root.Values.proxy.limits.pagesBurst }} nodelay;
{{- if include "platform.login" .root }}
if ($foreign_page) { return 403; }
set $needed_role viewer;
set $needs_no_session $has_token;
{{ include "platform.forwarded" . }}
proxy_set_header Authorization $token;
{{- end }}
{{- end }}

{{/* platform.open (root): what asks for no login. */}}
{{- define "platform.open" -}}
auth_basic off;
{{- if include "platform.login" . }}
auth_request off;
{{- end }}
{{- end }}

{{/* platform.proxyLogins (root): shell that writes how the proxy logs in to Prometheus and Alertmanager, and by what Airflow and the portal know it,
from the Secrets. */}}
{{- define "platform.proxyLogins" -}}
mkdir -p /tmp/logins
for part in {{ join " " (include "platform.proxyParts" . | fromJsonArray) }}; do
  login=$(printf 'phaseflow:%s' "$(cat "/etc/phaseflow/logins/${part}_password")" | base64 | tr -d '\n')
  printf 'proxy_set_header Authorization "Basic %s";\n' "$login" >"/tmp/logins/$part.conf"
done
{{- if include "platform.login" . }}
identity=$(cat /etc/phaseflow/identity/identity_secret)
case "$identity" in
'' | *[!A-Za-z0-9_-]*) echo "error: identity_secret is empty, or has other characters than letters, digits, - and _. Make one: openssl rand -hex 32" >&2; exit 1 ;;
esac
printf 'proxy_set_header X-Phaseflow-Identity "%s";\n' "$identity" >/tmp/logins/identity.conf
{{- end }}
{{- end }}

{{/* platform.proxyParts (root): the parts that the proxy logs in to, as JSON. */}}
{{- define "platform.proxyParts" -}}
{{- $parts := list -}}
{{- if .Values.monitoring.enabled }}
{{- range $part := list "prometheus" "alertmanager" }}
{{- if dig $part "enabled" true $.Values.monitoring }}
{{- $parts = append $parts $part }}
{{- end }}
{{- end }}
{{- end }}
{{- toJson $parts }}
{{- end }}

{{- define "hookmesh.labels" -}}
app.kubernetes.io/name: hookmesh
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .service }}
{{- end }}

{{- define "hookmesh.name" -}}
{{ .root.Release.Name }}-{{ .service }}
{{- end }}

{{- define "hookmesh.address" -}}
{{ .root.Release.Name }}-{{ .service }}-headless.{{ .root.Release.Namespace }}.svc:9090
{{- end }}

{{- /* How many replicas a service begins with; autoscalers change it later. */ -}}
{{- define "hookmesh.replicas" -}}
{{- $several := or .root.Values.store.dsn (eq .service "gateway") -}}
{{- if and (gt (int .settings.replicas) 1) (not $several) -}}
{{- fail (printf "services.%s.replicas is %d, but without store.dsn its database is on one volume: set store.dsn, or one replica" .service (int .settings.replicas)) -}}
{{- end -}}
{{- range list .settings.hpa .settings.keda -}}
{{- if and . .enabled (not $several) -}}{{- fail (printf "services.%s cannot be scaled without store.dsn" $.service) -}}{{- end -}}
{{- end -}}
{{ int .settings.replicas }}
{{- end }}

{{- /* The data of the ConfigMap with the configuration of every service. */ -}}
{{- define "hookmesh.config" -}}
data:
  hookmesh.yaml: |
    http: {listen: "0.0.0.0:8080"}
    grpc: {listen: "0.0.0.0:9090"}
    admin: {listen: "0.0.0.0:9100"}
    data_dir: /data
    kafka:
      {{- toYaml (merge (dict "brokers" .Values.kafka.brokers "partitions" .Values.kafka.partitions) .Values.kafka.settings (dict "instance_id" "${HOSTNAME}")) | nindent 6 }}
    {{- with .Values.store.dsn }}
    store: {dsn: {{ . | quote }}}
    {{- end }}
    verifier: {keys: [{value: "${HOOKMESH_KEY}"}]}
    access: {{ merge (dict "service_key" "${HOOKMESH_KEY}") .Values.access | toJson }}
    {{- if .Values.mtlsSecret }}
    mtls: {ca_file: /tls/ca.crt, cert_file: /tls/tls.crt, key_file: /tls/tls.key, server_name: {{ .Release.Name }}}
    {{- end }}
    services:
      {{- range $service, $_ := .Values.services }}
      {{ $service }}: {{ include "hookmesh.address" (dict "root" $ "service" $service) | quote }}
      {{- end }}
    {{- toYaml .Values.config | nindent 4 }}
{{- end }}

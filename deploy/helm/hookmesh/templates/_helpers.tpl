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

{{- define "web.image" -}}
{{ .registry }}/{{ .repository }}:{{ .tag }}
{{- end -}}

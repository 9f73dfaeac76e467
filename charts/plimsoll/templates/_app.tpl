{{/* The application beside the sidecar. */}}
{{- define "plimsoll.app" -}}
{{- with .Values.app -}}
- name: app
  image: {{ printf "%s:%s" .image.repository .image.tag | quote }}
  imagePullPolicy: {{ .image.pullPolicy }}
  {{- with .command }}
  command:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .args }}
  args:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  env:
    {{- include "plimsoll.clientEnv" $ | nindent 4 }}
    {{- with .env }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  ports:
    - name: http
      containerPort: {{ .port }}
  {{- with .readinessProbe }}
  readinessProbe:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .livenessProbe }}
  livenessProbe:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  securityContext:
    {{- include "plimsoll.containerSecurityContext" $ | nindent 4 }}
  resources:
    {{- toYaml .resources | nindent 4 }}
{{- end }}
{{- end -}}

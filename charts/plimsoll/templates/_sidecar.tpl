{{/*
The sidecar for any pod. A chart that depends on this one, with `app.enabled: false` for it, writes in its own pod template:

    metadata:
      annotations:
        {{- include "plimsoll.podAnnotations" .Subcharts.plimsoll | nindent 8 }}
    spec:
      initContainers:
        {{- include "plimsoll.sidecar" .Subcharts.plimsoll | nindent 8 }}
      containers:
        - name: app
          env:
            {{- include "plimsoll.clientEnv" .Subcharts.plimsoll | nindent 12 }}
      volumes:
        {{- include "plimsoll.volumes" .Subcharts.plimsoll | nindent 8 }}
*/}}

{{/* Restarts the pod when its configuration changes. */}}
{{- define "plimsoll.podAnnotations" -}}
checksum/config: {{ .Values.config | sha256sum }}
{{- end -}}

{{/* Points SDKs of the OpenAI dialect at the sidecar. */}}
{{- define "plimsoll.clientEnv" -}}
- name: OPENAI_BASE_URL
  value: http://127.0.0.1:{{ .Values.sidecar.dataPort }}/v1
{{- end -}}

{{/* A native sidecar: ready before the application starts, stopped after it has ended. */}}
{{- define "plimsoll.sidecar" -}}
{{- with .Values.sidecar -}}
- name: plimsoll
  image: {{ printf "%s:%s" .image.repository (.image.tag | default $.Chart.AppVersion) | quote }}
  imagePullPolicy: {{ .image.pullPolicy }}
  restartPolicy: Always
  args: [serve, --config, /etc/plimsoll/config.yaml]
  env:
    {{- include "plimsoll.sidecarEnv" $ | nindent 4 }}
  ports:
    - name: plimsoll-admin
      containerPort: {{ .adminPort }}
  {{- include "plimsoll.probes" $ | nindent 2 }}
  securityContext:
    {{- include "plimsoll.containerSecurityContext" $ | nindent 4 }}
  resources:
    {{- toYaml .resources | nindent 4 }}
  terminationMessagePolicy: FallbackToLogsOnError
  volumeMounts:
    - name: plimsoll-config
      mountPath: /etc/plimsoll
      readOnly: true
    - name: plimsoll-tmp
      mountPath: /tmp
    {{- if .models }}
    - name: plimsoll-models
      mountPath: /models
      readOnly: true
    {{- end }}
{{- end }}
{{- end -}}

{{/* The application reaches the data port on loopback; the kubelet's probes come to the pod's address. */}}
{{- define "plimsoll.sidecarEnv" -}}
{{- with .Values.sidecar -}}
- name: PLIMSOLL__LISTEN__DATA
  value: 127.0.0.1:{{ .dataPort }}
- name: PLIMSOLL__LISTEN__ADMIN
  value: 0.0.0.0:{{ .adminPort }}
- name: PLIMSOLL__LISTEN__ADMIN_TOKEN
  valueFrom:
    secretKeyRef:
      name: {{ include "plimsoll.adminSecretName" $ }}
      key: {{ .adminToken.key }}
- name: PLIMSOLL__LIMITS__DRAIN
  value: {{ .drainSeconds }}s
{{- with .env }}
{{ toYaml . }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Liveness asks only whether the process answers: a long prefill or a full queue is not a reason to kill it. */}}
{{- define "plimsoll.probes" -}}
startupProbe:
  httpGet: { path: /readyz, port: plimsoll-admin }
  periodSeconds: 1
  failureThreshold: {{ .Values.sidecar.startupSeconds }}
readinessProbe:
  httpGet: { path: /readyz, port: plimsoll-admin }
  periodSeconds: 5
  timeoutSeconds: 2
livenessProbe:
  httpGet: { path: /livez, port: plimsoll-admin }
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
{{- end -}}

{{- define "plimsoll.volumes" -}}
- name: plimsoll-config
  configMap:
    name: {{ include "plimsoll.fullname" . }}
- name: plimsoll-tmp
  emptyDir:
    sizeLimit: 1Gi
{{- with .Values.sidecar.models }}
- name: plimsoll-models
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

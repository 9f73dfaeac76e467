{{/* The pod template of the chart's own Deployment: the application and its sidecar, or Plimsoll alone. */}}
{{- define "plimsoll.podTemplate" -}}
metadata:
  labels:
    {{- include "plimsoll.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    {{- include "plimsoll.podAnnotations" . | nindent 4 }}
    {{- with .Values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "plimsoll.serviceAccountName" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.terminationGracePeriodSeconds }}
  securityContext:
    runAsNonRoot: true
    seccompProfile:
      type: RuntimeDefault
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.runtimeClassName }}
  runtimeClassName: {{ . }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  {{- if .Values.standalone.enabled }}
  containers:
    {{- include "plimsoll.container" (dict "root" . "native" false) | nindent 4 }}
  {{- else }}
  initContainers:
    {{- include "plimsoll.sidecar" . | nindent 4 }}
  containers:
    {{- include "plimsoll.app" . | nindent 4 }}
  {{- end }}
  {{- with include "plimsoll.resourceClaims" . }}
  resourceClaims:
    {{- . | nindent 4 }}
  {{- end }}
  volumes:
    {{- include "plimsoll.volumes" . | nindent 4 }}
  {{- range $key := list "nodeSelector" "tolerations" "affinity" "topologySpreadConstraints" }}
  {{- with get $.Values $key }}
  {{ $key }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
{{- end -}}

{{/* Ends rendering where the values contradict each other. */}}
{{- define "plimsoll.check" -}}
{{- if and .Values.app.enabled .Values.standalone.enabled -}}
{{- fail "app.enabled and standalone.enabled exclude each other: the sidecar stands beside the application, or Plimsoll alone" -}}
{{- end -}}
{{- $stop := add .Values.sidecar.drainSeconds 5 (ternary .Values.standalone.preStopSeconds 0 .Values.standalone.enabled) -}}
{{- if le (int .Values.terminationGracePeriodSeconds) (int $stop) -}}
{{- fail (printf "terminationGracePeriodSeconds must exceed %d: sidecar.drainSeconds, standalone.preStopSeconds where it counts, and 5 for the last traces" (int $stop)) -}}
{{- end -}}
{{- $gpu := .Values.sidecar.gpu -}}
{{- if and $gpu.count (eq $gpu.by "dra") (semverCompare "<1.34-0" .Capabilities.KubeVersion.Version) -}}
{{- fail "sidecar.gpu.by `dra` needs Kubernetes 1.34 or later: take `device-plugin`" -}}
{{- end -}}
{{- end -}}

{{/* "true" where the chart has a Deployment of its own. */}}
{{- define "plimsoll.deployed" -}}
{{- if or .Values.app.enabled .Values.standalone.enabled -}}true{{- end -}}
{{- end -}}

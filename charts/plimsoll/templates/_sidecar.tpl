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

Where `sidecar.gpu.by` is `dra`, the pod also takes the claim:

      resourceClaims:
        {{- include "plimsoll.resourceClaims" .Subcharts.plimsoll | nindent 8 }}
*/}}

{{/* Restarts the pod when its configuration changes. */}}
{{- define "plimsoll.podAnnotations" -}}
checksum/config: {{ include "plimsoll.config" (dict "root" . "team" .Values.team) | sha256sum }}
{{- end -}}

{{/* Points SDKs of the OpenAI dialect at the sidecar. */}}
{{- define "plimsoll.clientEnv" -}}
- name: OPENAI_BASE_URL
  value: http://127.0.0.1:{{ .Values.sidecar.dataPort }}/v1
{{- end -}}

{{/* A native sidecar: ready before the application starts, stopped after it has ended. */}}
{{- define "plimsoll.sidecar" -}}
{{- include "plimsoll.container" (dict "root" . "native" true) -}}
{{- end -}}

{{/* The container: `native` beside an application, else alone in its pod. */}}
{{- define "plimsoll.container" -}}
{{- $ := .root -}}
{{- $native := .native -}}
{{- with $.Values.sidecar -}}
- name: plimsoll
  image: {{ printf "%s:%s" .image.repository (.image.tag | default $.Chart.AppVersion) | quote }}
  imagePullPolicy: {{ .image.pullPolicy }}
  {{- if $native }}
  restartPolicy: Always
  {{- end }}
  args: [serve, --config, /etc/plimsoll/config.yaml]
  env:
    {{- include "plimsoll.sidecarEnv" (dict "root" $ "native" $native) | nindent 4 }}
  ports:
    {{- if not $native }}
    - name: http
      containerPort: {{ .dataPort }}
    {{- end }}
    - name: plimsoll-admin
      containerPort: {{ .adminPort }}
  {{- include "plimsoll.probes" $ | nindent 2 }}
  {{- if and (not $native) (semverCompare ">=1.30-0" $.Capabilities.KubeVersion.Version) }}
  # Requests still come until every node knows that this pod is going.
  lifecycle:
    preStop:
      sleep:
        seconds: {{ $.Values.standalone.preStopSeconds }}
  {{- end }}
  securityContext:
    {{- include "plimsoll.containerSecurityContext" $ | nindent 4 }}
  resources:
    {{- include "plimsoll.resources" $ | nindent 4 }}
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

{{/* Beside an application the data port is on loopback; the kubelet's probes come to the pod's address. */}}
{{- define "plimsoll.sidecarEnv" -}}
{{- $ := .root -}}
{{- $native := .native -}}
{{- with $.Values.sidecar -}}
- name: PLIMSOLL__LISTEN__DATA
  value: {{ ternary "127.0.0.1" "0.0.0.0" $native }}:{{ .dataPort }}
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

{{/* The container's resources, with its GPUs: a device plugin's are a limit, those of DRA a claim. */}}
{{- define "plimsoll.resources" -}}
{{- $gpu := .Values.sidecar.gpu -}}
{{- $resources := deepCopy .Values.sidecar.resources -}}
{{- if and $gpu.count (eq $gpu.by "device-plugin") -}}
{{- $limits := merge (dict $gpu.resource (toString $gpu.count)) ($resources.limits | default dict) -}}
{{- $_ := set $resources "limits" $limits -}}
{{- else if $gpu.count -}}
{{- $claims := append ($resources.claims | default list) (dict "name" "plimsoll-gpu") -}}
{{- $_ := set $resources "claims" $claims -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end -}}

{{/* What the pod claims for the container, where its GPUs come by DRA; else nothing. */}}
{{- define "plimsoll.resourceClaims" -}}
{{- if and .Values.sidecar.gpu.count (eq .Values.sidecar.gpu.by "dra") -}}
- name: plimsoll-gpu
  resourceClaimTemplateName: {{ include "plimsoll.fullname" . }}-gpu
{{- end -}}
{{- end -}}

{{- define "plimsoll.volumes" -}}
- name: plimsoll-config
  configMap:
    name: {{ include "plimsoll.configName" (dict "root" . "team" .Values.team) }}
- name: plimsoll-tmp
  emptyDir:
    sizeLimit: 1Gi
{{- with .Values.sidecar.models }}
- name: plimsoll-models
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

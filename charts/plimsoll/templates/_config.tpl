{{/* What runs where `config` is empty: the model at /models/demo, by the preset for chats. */}}
{{- define "plimsoll.defaultConfig" -}}
upstreams:
  local:
    engine:
      model: /models/demo
      name: demo
      device: auto
      context: 1024
routes:
  - name: default
    upstream: local
    policy: chat
    any_model: true
{{- end -}}

{{/* The text of config.yaml for a team, `config` with the team's part over it; for no team, `config` itself. */}}
{{- define "plimsoll.config" -}}
{{- $values := .root.Values -}}
{{- $config := deepCopy $values.config | default (include "plimsoll.defaultConfig" . | fromYaml) -}}
{{- if .team -}}
{{- if not (hasKey $values.teams .team) -}}
{{- fail (printf "team names `%s`, which `teams` does not have" .team) -}}
{{- end -}}
{{- $config = mustMergeOverwrite $config (deepCopy (get $values.teams .team)) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* The ConfigMap of a team, or of none. */}}
{{- define "plimsoll.configName" -}}
{{- $name := include "plimsoll.fullname" .root -}}
{{- if .team -}}
{{- printf "%s-%s" ($name | trunc 40 | trimSuffix "-") .team -}}
{{- else -}}
{{- $name -}}
{{- end -}}
{{- end -}}

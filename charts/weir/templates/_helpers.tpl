{{- define "weir.fullname" -}}
{{- if contains "weir" .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-weir" .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "weir.selector" -}}
app.kubernetes.io/name: weir-operator
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "weir.labels" -}}
app.kubernetes.io/name: weir-operator
{{ include "weir.commonLabels" . }}
{{- end -}}

{{- define "weir.commonLabels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: weir
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "weir.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "weir.fullname" .) -}}
{{- else -}}
{{- required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- /* list (root, image): registry/repository:tag or @digest */ -}}
{{- define "weir.image" -}}
{{- $root := index . 0 -}}
{{- $image := index . 1 -}}
{{- with $root.Values.image.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default $root.Chart.AppVersion }}{{ end -}}
{{- end -}}

{{- /* The plurals of Weir's kinds, read from the definitions so that no list can fall behind: a JSON list */ -}}
{{- define "weir.plurals" -}}
{{- $plurals := list -}}
{{- range $path, $bytes := .Files.Glob "crds-generated/*.yaml" -}}
{{- $plurals = append $plurals (fromYaml (toString $bytes)).spec.names.plural -}}
{{- end -}}
{{- toJson (sortAlpha $plurals) -}}
{{- end -}}

{{- /* Namespaces to watch, its own with them if the default bus is there: a JSON list, empty for all */ -}}
{{- define "weir.watched" -}}
{{- $watched := .Values.watchNamespaces -}}
{{- if and $watched .Values.defaultBus.nats.servers -}}
{{- $watched = append $watched .Release.Namespace | uniq -}}
{{- end -}}
{{- toJson $watched -}}
{{- end -}}

{{- define "weir.operatorArgs" -}}
- --sidecar-image={{ include "weir.image" (list . .Values.sidecar.image) }}
- --image-pull-policy={{ .Values.image.pullPolicy }}
{{- with .Values.sidecar.pullSecrets }}
- --image-pull-secrets={{ $names := list }}{{ range . }}{{ $names = append $names .name }}{{ end }}{{ join "," $names }}
{{- end }}
- --sidecar-resources={{ toJson .Values.sidecar.resources }}
- --runtime-resources={{ toJson .Values.runtime.resources }}
{{- if .Values.defaultBus.nats.servers }}
- --default-bus={{ .Release.Namespace }}/default
{{- end }}
{{- with include "weir.watched" . | fromJsonArray }}
- --watch-namespaces={{ join "," . }}
{{- end }}
- --deletion-timeout-seconds={{ .Values.operator.deletionTimeoutSeconds }}
- --lease-namespace=$(POD_NAMESPACE)
- --identity=$(POD_NAME)
- --service-account={{ include "weir.serviceAccount" . }}
- --credentials-dir=/tmp/weir
{{- if include "weir.ops" . }}
- --ops-address=0.0.0.0:8443
{{- end }}
- --log={{ .Values.operator.logLevel }}
{{- with .Values.operator.extraArgs }}
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end -}}

{{- /* Not empty where the ops API is served. */ -}}
{{- define "weir.ops" -}}
{{- if or (eq .Values.ops.enabled "Always") (and (eq .Values.ops.enabled "Auto") (not .Values.watchNamespaces)) -}}
yes
{{- end -}}
{{- end -}}

{{- /* What the operator's pod and the checking one have in common. */ -}}
{{- define "weir.pod" -}}
serviceAccountName: {{ include "weir.serviceAccount" . }}
automountServiceAccountToken: true
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.operator.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.operator.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.operator.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.operator.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "weir.container" -}}
image: {{ include "weir.image" (list . .Values.operator.image) }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
env:
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- /* Shared by every chart of the stack. */ -}}

{{- define "sgx.name" -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "sgx.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "sgx.labels" -}}
{{ include "sgx.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: sgx-stack
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "sgx.prefix" -}}
{{- .Values.global.prefix | default (ternary "sgx.sgxkit.dev" "sgx.intel.com" .Values.global.emulated) -}}
{{- end -}}

{{- /* An image: of the part itself where it names one, else the common one. */ -}}
{{- define "sgx.image" -}}
{{- $image := .Values.global.image -}}
{{- with .Values.image -}}{{- if .repository -}}{{- $image = . -}}{{- end -}}{{- end -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "sgx.pullSecrets" -}}
{{- with .Values.global.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* Without anything that it does not need; the user is added by who includes it. */ -}}
{{- define "sgx.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
seccompProfile: {type: RuntimeDefault}
{{- end -}}

{{- define "sgx.linuxAmd64" -}}
- {key: kubernetes.io/os, operator: In, values: [linux]}
- {key: kubernetes.io/arch, operator: In, values: [amd64]}
{{- end -}}

{{- /* Nodes with SGX by any of the labels in use; every node where it is emulated. */ -}}
{{- define "sgx.nodeAffinity" -}}
nodeAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    nodeSelectorTerms:
      {{- if .Values.global.emulated }}
      - matchExpressions: {{- include "sgx.linuxAmd64" . | nindent 10 }}
      {{- else }}
      {{- range .Values.global.nodeLabels }}
      - matchExpressions:
          - {key: {{ . }}, operator: In, values: ["true"]}
          {{- include "sgx.linuxAmd64" $ | nindent 10 }}
      {{- end }}
      {{- end }}
{{- end -}}

{{- define "sgx.tolerations" -}}
{{- with .Values.global.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "sgx.probes" -}}
livenessProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 20
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 5
{{- end -}}

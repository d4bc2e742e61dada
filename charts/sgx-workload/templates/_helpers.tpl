{{- define "workload.name" -}}
{{- if contains "workload" .Release.Name -}}{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else -}}{{ printf "%s-sgx" .Release.Name | trunc 63 | trimSuffix "-" }}{{- end -}}
{{- end -}}

{{- define "workload.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "workload.labels" -}}
{{ include "workload.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "workload.image" -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}{{- else -}}{{ .repository }}:{{ .tag }}{{- end -}}
{{- end -}}

{{- /* The devices, beside whatever cpu and memory are: overriding those cannot lose these. */ -}}
{{- define "workload.devices" -}}
{{- $sgx := .Values.sgx -}}
{{- if $sgx.extraResources }}
{{- range $name, $amount := $sgx.extraResources }}
{{ $name }}: {{ $amount | quote }}
{{- end }}
{{- end }}
{{ $sgx.prefix }}/enclave: "1"
{{- if or $sgx.provision (eq $sgx.quoteProvider "inproc") }}
{{ $sgx.prefix }}/provision: "1"
{{- end }}
{{- with $sgx.epc }}
{{ $sgx.prefix }}/epc: {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "workload.resources" -}}
requests:
  {{- with .Values.resources.requests }}{{ toYaml . | nindent 2 }}{{ end }}
  {{- include "workload.devices" . | trim | nindent 2 }}
limits:
  {{- with .Values.resources.limits }}{{ toYaml . | nindent 2 }}{{ end }}
  {{- include "workload.devices" . | trim | nindent 2 }}
{{- end -}}

{{- define "workload.asksAesm" -}}
{{- if and (eq .Values.sgx.quoteProvider "aesmd") (not .Values.sgx.emulated) -}}true{{- end -}}
{{- end -}}

{{- define "workload.environment" -}}
{{- if eq .Values.sgx.quoteProvider "aesmd" }}
- {name: SGX_AESM_ADDR, value: "1"}
{{- end }}
{{- range $name, $value := .Values.env }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end -}}

{{- define "workload.aesmMount" -}}
- {name: aesmd-socket, mountPath: /var/run/aesmd, readOnly: true}
{{- end -}}

{{- define "workload.needs" -}}
{{- if .Values.preflight.needs }}{{ join "," .Values.preflight.needs }}
{{- else if eq .Values.sgx.quoteProvider "aesmd" }}{{ ternary "aesm" "enclave,aesm" .Values.sgx.emulated }}
{{- else if eq .Values.sgx.quoteProvider "inproc" }}{{ ternary "" "enclave,provision" .Values.sgx.emulated }}
{{- else }}{{ ternary "" "enclave" .Values.sgx.emulated }}{{ end }}
{{- end -}}

{{- define "workload.preflight" -}}
image: {{ include "workload.image" (merge (dict "tag" (.Values.preflight.image.tag | default .Chart.AppVersion)) .Values.preflight.image) }}
args:
  - k8s
  - preflight
  - --prefix={{ .Values.sgx.prefix }}
  {{- range splitList "," (include "workload.needs" . | trim) }}
  {{- if . }}
  - --need={{ . }}
  {{- end }}
  {{- end }}
securityContext: {{- toYaml .Values.containerSecurityContext | nindent 2 }}
resources:
  requests:
    cpu: 10m
    memory: 64Mi
    {{- include "workload.devices" . | trim | nindent 4 }}
  limits:
    memory: 128Mi
    {{- include "workload.devices" . | trim | nindent 4 }}
volumeMounts:
  {{- if include "workload.asksAesm" . }}
  {{- include "workload.aesmMount" . | nindent 2 }}
  {{- end }}
  - {name: tmp, mountPath: /tmp}
{{- end -}}

{{- define "workload.pod" -}}
metadata:
  labels:
    {{- include "workload.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  annotations:
    {{ .Values.sgx.prefix }}/quote-provider: {{ ternary .Release.Name .Values.sgx.quoteProvider (eq .Values.sgx.quoteProvider "inproc") | quote }}
    {{- with .Values.podAnnotations }}{{ toYaml . | nindent 4 }}{{ end }}
spec:
  serviceAccountName: {{ include "workload.name" . }}
  automountServiceAccountToken: false
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if eq .Values.kind "Job" }}
  restartPolicy: Never
  {{- end }}
  securityContext: {{- toYaml .Values.podSecurityContext | nindent 4 }}
  {{- with .Values.nodeSelector }}
  nodeSelector: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- if .Values.spreadOverNodes }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels: {{- include "workload.selector" . | nindent 10 }}
  {{- end }}
  {{- if and .Values.preflight.enabled (include "workload.needs" . | trim) }}
  initContainers:
    - name: preflight
      {{- include "workload.preflight" . | nindent 6 }}
  {{- end }}
  containers:
    - name: {{ .Release.Name | trunc 63 | trimSuffix "-" }}
      image: {{ include "workload.image" (merge (dict "repository" (required "image.repository is required" .Values.image.repository)) .Values.image) }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      {{- with .Values.command }}
      command: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.args }}
      args: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with include "workload.environment" . | trim }}
      env: {{- . | nindent 8 }}
      {{- end }}
      {{- with .Values.ports }}
      ports: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.livenessProbe }}
      livenessProbe: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.readinessProbe }}
      readinessProbe: {{- toYaml . | nindent 8 }}
      {{- end }}
      securityContext: {{- toYaml .Values.containerSecurityContext | nindent 8 }}
      resources: {{- include "workload.resources" . | nindent 8 }}
      volumeMounts:
        {{- if include "workload.asksAesm" . }}
        {{- include "workload.aesmMount" . | nindent 8 }}
        {{- end }}
        - {name: tmp, mountPath: /tmp}
        {{- with .Values.extraVolumeMounts }}{{ toYaml . | nindent 8 }}{{ end }}
  volumes:
    {{- if include "workload.asksAesm" . }}
    # The folder, not the socket: a daemon that is started again makes another socket. Absent: the pod waits and says so.
    - {name: aesmd-socket, hostPath: {path: {{ .Values.sgx.aesmDir }}, type: Directory}}
    {{- end }}
    - {name: tmp, emptyDir: {}}
    {{- with .Values.extraVolumes }}{{ toYaml . | nindent 4 }}{{ end }}
{{- end -}}

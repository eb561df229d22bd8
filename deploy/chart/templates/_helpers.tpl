{{- define "journey.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 40 characters: a pod's name is its host name, and a host name that is cut off would lose the ordinal. */}}
{{- define "journey.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if or (contains "journey" .Release.Name) (contains (include "journey.name" .) .Release.Name) -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "journey.name" .) | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "journey.selector" -}}
app.kubernetes.io/name: {{ include "journey.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "journey.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "journey.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: journey-orchestrator
{{- end -}}

{{/* Of pods: nothing that changes with the chart alone, or each of its releases would restart every engine. */}}
{{- define "journey.podLabels" -}}
{{ include "journey.selector" . }}
app.kubernetes.io/part-of: journey-orchestrator
{{- end -}}

{{- define "journey.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- define "journey.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "journey.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* --- definitions ------------------------------------------------------------------------------------------------ */}}

{{- define "journey.definitionFiles" -}}
{{- if .Values.definitions.files -}}
{{- toYaml .Values.definitions.files -}}
{{- else -}}
{{- range $path, $_ := .Files.Glob "files/definitions/*.yaml" }}
{{ base $path }}: {{ $.Files.Get $path | toJson }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* What ORCHESTRATOR_DEFINITIONS says: a folder, or `topic` for those that were published. */}}
{{- define "journey.definitionsPath" -}}
{{- if .Values.definitions.topic -}}
topic
{{- else -}}
{{- .Values.definitions.imagePath | default "/etc/journey/definitions" -}}
{{- end -}}
{{- end -}}

{{- define "journey.definitionsMap" -}}
{{- .Values.definitions.configMap | default (printf "%s-definitions" (include "journey.fullname" .)) -}}
{{- end -}}

{{/* --- what is mounted of them, and of inputs: beside the image's schemas, which is where schemas are looked for ---- */}}

{{- define "journey.mounts" -}}
{{- if not (or .Values.definitions.imagePath .Values.definitions.topic) }}
- {name: definitions, mountPath: {{ include "journey.definitionsPath" . }}, readOnly: true}
{{- end }}
{{- if .Values.inputs.configMap }}
- {name: inputs, mountPath: /app/schemas/inputs, readOnly: true}
{{- end }}
{{- end -}}

{{- define "journey.volumes" -}}
{{- if not (or .Values.definitions.imagePath .Values.definitions.topic) }}
- name: definitions
  configMap: {name: {{ include "journey.definitionsMap" . }}}
{{- end }}
{{- with .Values.inputs.configMap }}
- name: inputs
  configMap: {name: {{ . }}}
{{- end }}
{{- end -}}

{{/* --- what both roles run with; called with a dictionary of root, role and its values ---------------------------- */}}

{{- define "journey.environment" -}}
{{- $root := .root -}}
{{- $kafka := $root.Values.kafka -}}
{{- $user := .values.kafkaUser -}}
- {name: ORCHESTRATOR_INSTANCE, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: ORCHESTRATOR_BOOTSTRAP_SERVERS, value: {{ $kafka.bootstrapServers | quote }}}
- {name: ORCHESTRATOR_GROUP, value: {{ $kafka.group | quote }}}
- {name: ORCHESTRATOR_PARTITIONS, value: {{ $kafka.partitions | toString | quote }}}
{{- with $kafka.topicPrefix }}
- {name: ORCHESTRATOR_TOPIC_PREFIX, value: {{ . | quote }}}
{{- end }}
- {name: ORCHESTRATOR_STATE_DIR, value: /state}
- {name: ORCHESTRATOR_WEB_HOST, value: 0.0.0.0}
- {name: ORCHESTRATOR_WEB_PORT, value: {{ $root.Values.web.port | toString | quote }}}
- {name: ORCHESTRATOR_SECURITY_PROTOCOL, value: {{ $kafka.securityProtocol }}}
{{- if hasPrefix "sasl_" $kafka.securityProtocol }}
- {name: ORCHESTRATOR_SASL_MECHANISM, value: {{ $kafka.saslMechanism }}}
- {name: ORCHESTRATOR_SASL_USERNAME, value: {{ $user.username | quote }}}
- {name: ORCHESTRATOR_SASL_PASSWORD_FILE, value: /run/secrets/journey/password}
{{- with $kafka.saslTokenUrl }}
- {name: ORCHESTRATOR_SASL_TOKEN_URL, value: {{ . | quote }}}
{{- end }}
{{- end }}
{{- if $kafka.caSecret.name }}
- {name: ORCHESTRATOR_SSL_CA, value: /run/secrets/journey/ca.crt}
{{- end }}
{{- if $user.certificateSecret.name }}
- {name: ORCHESTRATOR_SSL_CERT, value: /run/secrets/journey/tls.crt}
- {name: ORCHESTRATOR_SSL_KEY, value: /run/secrets/journey/tls.key}
{{- end }}
{{- with $root.Values.schemaRegistry }}
{{- if .urlSecret.name }}
- {name: ORCHESTRATOR_SCHEMA_REGISTRY_URL_FILE, value: /run/secrets/journey/registry-url}
{{- else if .url }}
- {name: ORCHESTRATOR_SCHEMA_REGISTRY_URL, value: {{ .url | quote }}}
{{- end }}
{{- end }}
{{- if $root.Values.inputs.configMap }}
- {name: ORCHESTRATOR_TOPICS, value: /app/schemas/inputs/topics.yaml}
{{- else if $root.Values.inputs.imagePath }}
- {name: ORCHESTRATOR_TOPICS, value: {{ $root.Values.inputs.imagePath | quote }}}
{{- end }}
{{- if $root.Values.erasureSaltSecret.name }}
- {name: ORCHESTRATOR_ERASURE_SALT_FILE, value: /run/secrets/journey/erasure-salt}
{{- end }}
{{- range $name, $value := $root.Values.settings }}
- {name: ORCHESTRATOR_{{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end -}}

{{/* Secrets are files: an environment shows in crash dumps, and a command line to everybody on the node. */}}
{{- define "journey.secrets" -}}
{{- $kafka := .root.Values.kafka -}}
{{- $registry := .root.Values.schemaRegistry.urlSecret -}}
{{- $salt := .root.Values.erasureSaltSecret -}}
{{- $user := .values.kafkaUser -}}
{{- $token := .values.webTokenSecret | default dict -}}
{{- if or $user.passwordSecret.name $kafka.caSecret.name $user.certificateSecret.name $registry.name $salt.name $token.name -}}
- name: secrets
  projected:
    defaultMode: 0440
    sources:
      {{- with $user.passwordSecret }}{{ if .name }}
      - secret: {name: {{ .name }}, items: [{key: {{ .key }}, path: password}]}
      {{- end }}{{ end }}
      {{- with $kafka.caSecret }}{{ if .name }}
      - secret: {name: {{ .name }}, items: [{key: {{ .key }}, path: ca.crt}]}
      {{- end }}{{ end }}
      {{- with $user.certificateSecret }}{{ if .name }}
      - secret: {name: {{ .name }}, items: [{key: {{ .certificateKey }}, path: tls.crt}, {key: {{ .privateKeyKey }}, path: tls.key}]}
      {{- end }}{{ end }}
      {{- with $registry }}{{ if .name }}
      - secret: {name: {{ .name }}, items: [{key: {{ .key }}, path: registry-url}]}
      {{- end }}{{ end }}
      {{- with $salt }}{{ if .name }}
      - secret: {name: {{ .name }}, items: [{key: {{ .key }}, path: erasure-salt}]}
      {{- end }}{{ end }}
      {{- with $token }}{{ if .name }}
      - secret: {name: {{ .name }}, items: [{key: {{ .key }}, path: web-token}]}
      {{- end }}{{ end }}
{{- end -}}
{{- end -}}

{{- define "journey.scheduling" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- define "journey.probes" -}}
# Restoring takes its time; only after it has the liveness probe a say, and that one asks the loop, never about lag.
startupProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: {{ mul .restoreMinutes 6 }}
readinessProbe:
  httpGet: {path: /readyz, port: http}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
livenessProbe:
  httpGet: {path: /healthz, port: http}
  periodSeconds: 20
  timeoutSeconds: 10
  failureThreshold: 3
{{- end -}}

{{- define "journey.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{/* --- what values.schema.json cannot say, or not as clearly ------------------------------------------------------ */}}

{{- define "journey.checks" -}}
{{- $v := .Values -}}
{{- if not $v.kafka.bootstrapServers -}}
{{- fail "kafka.bootstrapServers is not set: name the brokers, such as my-cluster-kafka-bootstrap.kafka:9092" -}}
{{- end -}}
{{- if and $v.keda.enabled (eq $v.membership "static") -}}
{{- fail "membership is static and keda.enabled is true: a static member does not leave its group when it is scaled away, so its partitions would stand still until its session ends. Use membership: dynamic with KEDA, or a fixed engine.replicas" -}}
{{- end -}}
{{- if and $v.keda.enabled (gt (int $v.keda.minReplicas) (int $v.keda.maxReplicas)) -}}
{{- fail (printf "keda.minReplicas is %v, more than keda.maxReplicas %v" $v.keda.minReplicas $v.keda.maxReplicas) -}}
{{- end -}}
{{- $most := ternary $v.keda.maxReplicas $v.engine.replicas $v.keda.enabled -}}
{{- if gt (int $most) (int $v.kafka.partitions) -}}
{{- fail (printf "%v engines are more than kafka.partitions %v: an engine without a partition never becomes ready" $most $v.kafka.partitions) -}}
{{- end -}}
{{- $sasl := hasPrefix "sasl_" $v.kafka.securityProtocol -}}
{{- $tls := hasSuffix "ssl" $v.kafka.securityProtocol -}}
{{- range $role := ternary (list "engine" "control") (list "engine") $v.control.enabled -}}
{{- $user := (index $v $role).kafkaUser -}}
{{- if and $sasl (not (and $user.username $user.passwordSecret.name)) -}}
{{- fail (printf "kafka.securityProtocol is %s: %s.kafkaUser needs username and passwordSecret.name" $v.kafka.securityProtocol $role) -}}
{{- end -}}
{{- if and (not $sasl) (or $user.username $user.passwordSecret.name) -}}
{{- fail (printf "%s.kafkaUser has a password, but kafka.securityProtocol is %s: use sasl_ssl" $role $v.kafka.securityProtocol) -}}
{{- end -}}
{{- if and (not $tls) $user.certificateSecret.name -}}
{{- fail (printf "%s.kafkaUser has a certificate, but kafka.securityProtocol %s does not encrypt: use ssl or sasl_ssl" $role $v.kafka.securityProtocol) -}}
{{- end -}}
{{- end -}}
{{- if and $sasl (ne (eq $v.kafka.saslMechanism "OAUTHBEARER") (ne $v.kafka.saslTokenUrl "")) -}}
{{- fail "kafka.saslTokenUrl and kafka.saslMechanism OAUTHBEARER go together: set both or neither" -}}
{{- end -}}
{{- if and (not $tls) $v.kafka.caSecret.name -}}
{{- fail (printf "kafka.caSecret is set, but kafka.securityProtocol %s does not encrypt: use ssl or sasl_ssl" $v.kafka.securityProtocol) -}}
{{- end -}}
{{- if and $v.schemaRegistry.url $v.schemaRegistry.urlSecret.name -}}
{{- fail "schemaRegistry.url and schemaRegistry.urlSecret are both set: keep one" -}}
{{- end -}}
{{- if contains "@" $v.schemaRegistry.url -}}
{{- fail "schemaRegistry.url carries a password: put the URL into a Secret and name it in schemaRegistry.urlSecret" -}}
{{- end -}}
{{- $files := include "journey.definitionFiles" . | trim -}}
{{- $topic := ternary "topic" "" $v.definitions.topic -}}
{{- $sources := len (without (list $files $v.definitions.configMap $v.definitions.imagePath $topic) "") -}}
{{- if eq $sources 0 -}}
{{- fail "no definitions: put YAML files into files/definitions of the chart, or set definitions.files, definitions.configMap, definitions.topic: true for those that were published, or definitions.imagePath: /app/deploy/definitions/retail for the example" -}}
{{- end -}}
{{- if gt $sources 1 -}}
{{- fail "definitions come from more than one place: keep one of files (also those in files/definitions), configMap, imagePath and topic" -}}
{{- end -}}
{{- if not (or (eq $v.definitions.imagePath "") (hasPrefix "/" $v.definitions.imagePath)) -}}
{{- fail (printf "definitions.imagePath is '%s', no folder in the image: write it from the root, or definitions.topic: true for those that were published" $v.definitions.imagePath) -}}
{{- end -}}
{{- if and $v.inputs.configMap $v.inputs.imagePath -}}
{{- fail "inputs.configMap and inputs.imagePath are both set: keep one" -}}
{{- end -}}
{{- end -}}

import type { Manifest } from './manifests.ts'

/** What the API server refuses although the schemas take it: its own validation, as far as our kinds meet it. */
export function refusalsOf(manifests: readonly Manifest[]): string[] {
  const problems: string[] = []
  const seen = new Set<string>()
  for (const manifest of manifests) {
    const place = `${manifest.kind} ${manifest.metadata.name}`
    if (seen.has(place)) problems.push(`${place} is there twice`)
    seen.add(place)
    const say = (text: string) => problems.push(`${place}: ${text}`)
    if (!SUBDOMAIN.test(manifest.metadata.name)) say('its name is no DNS subdomain')
    for (const [, value] of labelsOf(manifest)) if (!LABEL.test(value)) say(`label ${value}`)
    CHECKS[manifest.kind]?.(manifest, say, manifests)
  }
  return problems
}

type Say = (text: string) => void
type Check = (manifest: Manifest, say: Say, all: readonly Manifest[]) => void
// biome-ignore lint/suspicious/noExplicitAny: its shape has been compared with the schemas
type Any = any

const SUBDOMAIN = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/
const DNS_LABEL = /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/
const LABEL = /^([A-Za-z0-9]([-\w.]{0,61}[A-Za-z0-9])?)?$/
/** IANA service name: 15 characters at most, with a letter. */
const PORT_NAME = /^(?=.{1,15}$)(?=.*[a-z])[a-z0-9]+(-[a-z0-9]+)*$/
const VARIABLE = /^[-._a-zA-Z][-._a-zA-Z0-9]*$/
const QUANTITY = /^(\d+(?:\.\d+)?)(m|[kMGT]i?|Ki)?$/
const SCALE: Readonly<Record<string, number>> = {
  ...{ m: 1e-3, k: 1e3, M: 1e6, G: 1e9, T: 1e12 },
  ...{ Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40 },
}

const CHECKS: Readonly<Record<string, Check>> = {
  Deployment: (manifest, say, all) => {
    const { template, strategy } = manifest.spec
    const { maxSurge, maxUnavailable } = strategy.rollingUpdate
    if (Number.parseInt(maxSurge, 10) === 0 && Number.parseInt(maxUnavailable, 10) === 0) {
      say('maxSurge and maxUnavailable are both 0')
    }
    if ((template.spec.restartPolicy ?? 'Always') !== 'Always') say('restartPolicy')
    checkPod(template.spec, say, all)
  },
  Job: ({ spec }, say, all) => {
    if (!['Never', 'OnFailure'].includes(spec.template.spec.restartPolicy)) say('restartPolicy')
    checkPod(spec.template.spec, say, all)
  },
  Service: ({ spec }, say) => {
    checkUnique(spec.ports, say)
    for (const { name, port } of spec.ports) {
      if (!DNS_LABEL.test(name)) say(`port ${name}`)
      if (!isPort(port)) say(`port ${port}`)
    }
  },
  HorizontalPodAutoscaler: ({ spec }, say) => {
    if (!(spec.minReplicas >= 1 && spec.minReplicas <= spec.maxReplicas)) say('replicas')
  },
  PodDisruptionBudget: ({ spec }, say) => {
    if ((spec.minAvailable === undefined) === (spec.maxUnavailable === undefined)) {
      say('takes one of minAvailable and maxUnavailable')
    }
  },
  NetworkPolicy: ({ spec }, say) => {
    for (const rule of [...(spec.ingress ?? []), ...(spec.egress ?? [])]) {
      for (const { port } of rule.ports ?? []) if (!isPort(port)) say(`port ${port}`)
      for (const { ipBlock } of [...(rule.to ?? []), ...(rule.from ?? [])]) {
        if (ipBlock && !isCidr(ipBlock.cidr)) say(`cidr ${ipBlock.cidr}`)
      }
    }
    const types = new Set<string>(spec.policyTypes)
    if (spec.egress && !types.has('Egress')) say('egress rules that are not in policyTypes')
  },
  ConfigMap: ({ data = {} }, say) => {
    for (const [name, value] of Object.entries(data)) {
      if (!VARIABLE.test(name) || typeof value !== 'string') say(`data ${name}`)
    }
  },
}

function checkPod(pod: Any, say: Say, all: readonly Manifest[]): void {
  const containers: Any[] = [...(pod.initContainers ?? []), ...pod.containers]
  const volumes = new Set((pod.volumes ?? []).map(({ name }: Any) => name))
  checkUnique(containers, say)
  checkUnique(pod.volumes ?? [], say)
  for (const volume of pod.volumes ?? []) {
    if (Object.keys(volume).length !== 2) say(`volume ${volume.name} has not one source`)
    const { defaultMode } = volume.secret ?? {}
    if (defaultMode !== undefined && !(defaultMode >= 0 && defaultMode <= 0o777)) say('mode')
  }
  for (const container of containers) {
    if (!DNS_LABEL.test(container.name)) say(`container ${container.name}`)
    for (const { name, mountPath } of container.volumeMounts ?? []) {
      if (!volumes.has(name)) say(`${container.name} mounts ${name}, which is no volume`)
      if (!mountPath.startsWith('/')) say(`mountPath ${mountPath}`)
    }
    const paths = (container.volumeMounts ?? []).map(({ mountPath }: Any) => mountPath)
    if (new Set(paths).size !== paths.length) say(`${container.name} mounts two at one path`)
    for (const { name } of container.env ?? []) if (!VARIABLE.test(name)) say(`variable ${name}`)
    checkUnique(container.ports ?? [], say)
    for (const { name, containerPort } of container.ports ?? []) {
      if (!PORT_NAME.test(name) || !isPort(containerPort)) say(`port ${name} ${containerPort}`)
    }
    const { requests = {}, limits = {} } = container.resources ?? {}
    for (const [name, text] of [...Object.entries(requests), ...Object.entries(limits)]) {
      if (amountOf(text) === null) say(`${name} ${text}`)
    }
    for (const [name, limit] of Object.entries(limits)) {
      if ((amountOf(requests[name] ?? '0') ?? 0) > (amountOf(limit) ?? Infinity))
        say(`${name} of ${container.name}: more is requested than allowed`)
    }
    for (const { configMapRef } of container.envFrom ?? []) {
      const isThere = all.some(
        ({ kind, metadata }) => kind === 'ConfigMap' && metadata.name === configMapRef?.name,
      )
      if (configMapRef && !isThere) say(`there is no ConfigMap ${configMapRef.name}`)
    }
  }
}

function checkUnique(items: readonly { name: string }[], say: Say): void {
  const names = items.map(({ name }) => name)
  const twice = names.find((name, i) => names.indexOf(name) !== i)
  if (twice !== undefined) say(`${twice} is there twice`)
}

function labelsOf({ metadata, spec }: Manifest): [string, string][] {
  return Object.entries({ ...metadata.labels, ...spec?.template?.metadata?.labels })
}

function amountOf(text: unknown): number | null {
  const [, number, unit = ''] = QUANTITY.exec(String(text)) ?? []
  return number === undefined ? null : Number(number) * (SCALE[unit] ?? 1)
}

function isPort(port: unknown): boolean {
  return Number.isInteger(port) && Number(port) >= 1 && Number(port) <= 65_535
}

/** The address has no bit beyond the prefix: a server since 1.33 warns of it, and a firewall reads it in two ways. */
function isCidr(text: string): boolean {
  const [, address = '', bits = ''] = /^((?:\d{1,3}\.){3}\d{1,3})\/(\d{1,2})$/.exec(text) ?? []
  const parts = address.split('.').map(Number)
  if (parts.length !== 4 || parts.some(part => part > 255) || Number(bits) > 32) return false
  const value = parts.reduce((sum, part) => sum * 256 + part, 0)
  return value % 2 ** (32 - Number(bits)) === 0
}

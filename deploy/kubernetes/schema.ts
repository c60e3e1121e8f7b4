import type { Manifest } from './manifests.ts'

/** Compiled by ajv; what was wrong is left on the function. */
interface Validator {
  (data: unknown): boolean
  readonly errors?: readonly {
    readonly instancePath: string
    readonly keyword: string
    readonly params: unknown
  }[]
}

const CORE = 'kubernetes-models'
const OPERATOR = '@kubernetes-models/prometheus-operator'
const MONITORING = 'ComGithubPrometheusOperatorPrometheusOperatorPkgApisMonitoringV1'

/** Package and file of the compiled schema of each kind that we use. */
const SCHEMAS: Readonly<Record<string, readonly [string, string]>> = {
  'apps/v1 Deployment': [CORE, 'IoK8sApiAppsV1Deployment'],
  'autoscaling/v2 HorizontalPodAutoscaler': [CORE, 'IoK8sApiAutoscalingV2HorizontalPodAutoscaler'],
  'batch/v1 Job': [CORE, 'IoK8sApiBatchV1Job'],
  'monitoring.coreos.com/v1 PodMonitor': [OPERATOR, `${MONITORING}PodMonitor`],
  'monitoring.coreos.com/v1 PrometheusRule': [OPERATOR, `${MONITORING}PrometheusRule`],
  'networking.k8s.io/v1 NetworkPolicy': [CORE, 'IoK8sApiNetworkingV1NetworkPolicy'],
  'policy/v1 PodDisruptionBudget': [CORE, 'IoK8sApiPolicyV1PodDisruptionBudget'],
  'v1 ConfigMap': [CORE, 'IoK8sApiCoreV1ConfigMap'],
  'v1 Namespace': [CORE, 'IoK8sApiCoreV1Namespace'],
  'v1 Service': [CORE, 'IoK8sApiCoreV1Service'],
}

/** What Kubernetes' own schemas say against a manifest: wrong values, and fields that they do not have. */
export async function problemsOf(manifest: Manifest): Promise<string[]> {
  const name = `${manifest.apiVersion} ${manifest.kind}`
  const place = SCHEMAS[name]
  if (place === undefined) return [`${name} is of no kind that is checked`]
  const validate = await load(...place)
  // Validators are code that reads each field which the schema has: one that is never read, it does not have.
  const read = new Map<object, Set<string>>()
  const isValid = validate(watch(manifest, read))
  const errors = isValid ? [] : (validate.errors ?? [])
  return [
    ...errors.map(
      error => `${error.instancePath} ${error.keyword} ${JSON.stringify(error.params)}`,
    ),
    ...unreadOf(manifest, read, manifest.kind),
  ]
}

/** By path: not both packages name these files in their exports. */
async function load(packageName: string, file: string): Promise<Validator> {
  const url = new URL(`_schemas/${file}.js`, import.meta.resolve(packageName))
  const module = (await import(url.href)) as { validate: Validator }
  return module.validate
}

function watch(value: object, read: Map<object, Set<string>>): object {
  const seen = read.get(value) ?? new Set<string>()
  read.set(value, seen)
  return new Proxy(value, {
    get(target, key) {
      if (typeof key === 'string') seen.add(key)
      const child = Reflect.get(target, key)
      return typeof child === 'object' && child !== null ? watch(child, read) : child
    },
  })
}

function unreadOf(
  value: unknown,
  read: ReadonlyMap<object, ReadonlySet<string>>,
  path: string,
): string[] {
  if (typeof value !== 'object' || value === null) return []
  return Object.entries(value).flatMap(([key, child]) =>
    read.get(value)?.has(key)
      ? unreadOf(child, read, `${path}.${key}`)
      : [`${path}.${key} is not in the schema`],
  )
}

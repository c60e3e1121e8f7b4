import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import t from 'tap'
import { parse } from 'yaml'
import { readAppConfig } from '../../app/config.ts'
import { readGatewayConfig } from '../../gateway/config.ts'
import { SECRET_NAMES } from '../../registry/lib/secret-sources.ts'
import { ROOT, readSource } from '../checks/sources.ts'
import { parseDockerfile } from '../image/dockerfile.ts'
import { run } from '../local/run.ts'
import { asPrometheusRule } from '../prometheus/operator.ts'
import { doormanSecrets } from '../secrets/secrets.ts'
import {
  type Labels,
  type Manifest,
  partsOf,
  patched,
  readFolder,
  readManifests,
} from './manifests.ts'
import { refusalsOf } from './refusals.ts'
import { problemsOf } from './schema.ts'

const FOLDER = join(ROOT, 'deploy/kubernetes')
const { manifests, kustomizations } = readFolder(FOLDER)
const all = [...manifests.values()].flat()
const of = (kind: string) => all.filter(manifest => manifest.kind === kind)
const named = (kind: string, name: string) =>
  of(kind).find(({ metadata }) => metadata.name === name) as Manifest
const deployments = of('Deployment')
const workloads = [...deployments, ...of('Job')]
const images = {
  'doorman-gateway': parseDockerfile(readSource('Dockerfile.gateway')),
  'doorman-app': parseDockerfile(readSource('Dockerfile.app')),
}
const variables = new Set(
  [...readSource('.env.example').matchAll(/^#?([A-Z][A-Z0-9_]*)=/gm)].map(([, name]) => name),
)

t.test('every manifest fits the schema of Kubernetes, and has no field beside it', async t => {
  t.ok(all.length > 20, 'manifests are found')
  for (const [file, documents] of manifests) {
    for (const document of documents) {
      t.strictSame(await problemsOf(document), [], `${file}: ${document.kind}`)
    }
  }
  const service = structuredClone(named('Service', 'doorman-app'))
  service.spec.selektor = {}
  service.spec.ports[0].port = 'http'
  t.equal((await problemsOf(service)).length, 2, 'a mistake is seen')
})

t.test('every kustomization names files that exist, and reaches all of ours', async t => {
  const reached = new Set(
    ['overlays/production', 'overlays/production/migrate', 'traces'].flatMap(folder =>
      partsOf(folder, kustomizations),
    ),
  )
  for (const part of reached) t.ok(existsSync(join(FOLDER, part)), part)
  for (const file of [...manifests.keys(), ...kustomizations.keys()]) t.ok(reached.has(file), file)
  for (const { configMapGenerator = [] } of kustomizations.values()) {
    for (const { literals } of configMapGenerator) {
      for (const literal of literals) {
        const [name = ''] = literal.split('=')
        t.ok(variables.has(name) && !isSecret(name), `${name} is a variable, and no secret`)
      }
    }
  }
  for (const [folder, { patches = [] }] of kustomizations) {
    for (const { target, patch } of patches) {
      const changed = patched(named(target.kind, target.name), patch)
      t.strictSame(await problemsOf(changed), [], `${folder}: ${target.name}`)
    }
  }
})

t.test(
  'what kubectl makes of the overlays fits the schema too',
  { skip: await whyNot() },
  async t => {
    for (const folder of ['overlays/production', 'overlays/production/migrate']) {
      const made = await run('kubectl', ['kustomize', join(FOLDER, folder)], 60_000)
      t.equal(made.code, 0, made.output)
      const documents = readManifests(made.stdout)
      for (const document of documents) t.strictSame(await problemsOf(document), [], document.kind)
      t.strictSame(refusalsOf(documents), [], 'nor does the API server refuse it')
      const used = documents
        .flatMap(podsOf)
        .flatMap(containersOf)
        .map(({ image }) => image)
      for (const image of used) t.match(image, /^registry\.example\/doorman-(gateway|app):\d/)
    }
  },
)

t.test('what the API server would refuse though it fits the schema is seen', async t => {
  const generated = ['doorman-gateway', 'doorman-app'].map(name => ({
    ...{ apiVersion: 'v1', kind: 'ConfigMap', metadata: { name }, spec: undefined },
    data: Object.fromEntries(literalsOf('base', name)),
  }))
  t.strictSame(refusalsOf([...all, ...generated]), [])
  t.match(refusalsOf(all), [/there is no ConfigMap doorman-(gateway|app)/, /no ConfigMap/])
  const mistakes: [string, string, (spec: Manifest['spec']) => unknown][] = [
    ['Deployment', 'doorman-app', spec => spec.template.spec.volumes.pop()],
    ['Deployment', 'doorman-app', spec => Object.assign(containerOf(spec), { name: 'An_app' })],
    ['Deployment', 'doorman-app', spec => containerOf(spec).env.push({ name: '1A', value: '' })],
    [
      'Deployment',
      'doorman-app',
      spec => Object.assign(portOf(spec), { name: 'a-name-of-too-many' }),
    ],
    ['Deployment', 'doorman-app', spec => Object.assign(portOf(spec), { containerPort: 70_000 })],
    [
      'Deployment',
      'doorman-app',
      spec => Object.assign(containerOf(spec).resources.limits, { memory: '1Mi' }),
    ],
    [
      'Deployment',
      'doorman-app',
      spec => Object.assign(containerOf(spec).resources.limits, { memory: '1GB' }),
    ],
    [
      'Deployment',
      'doorman-app',
      spec => Object.assign(spec.strategy.rollingUpdate, { maxSurge: 0 }),
    ],
    [
      'Job',
      'doorman-migrate',
      spec => Object.assign(spec.template.spec, { restartPolicy: 'Always' }),
    ],
    ['Service', 'doorman-app', spec => spec.ports.push(spec.ports[0])],
    ['HorizontalPodAutoscaler', 'doorman-app', spec => Object.assign(spec, { maxReplicas: 1 })],
    ['PodDisruptionBudget', 'doorman-app', spec => Object.assign(spec, { minAvailable: 1 })],
    [
      'NetworkPolicy',
      'to-registry',
      spec => Object.assign(spec.egress[0].to[0].ipBlock, { cidr: '192.0.2.1/28' }),
    ],
    ['NetworkPolicy', 'to-registry', spec => Object.assign(spec, { policyTypes: ['Ingress'] })],
  ]
  for (const [kind, name, spoil] of mistakes) {
    const spoilt = structuredClone(all)
    spoil(spoilt.find(each => each.kind === kind && each.metadata.name === name)?.spec)
    const refusals = refusalsOf([...spoilt, ...generated])
    t.equal(refusals.length, 1, `${kind}: ${refusals.join() || String(spoil)}`)
  }
  t.match(refusalsOf([...all, ...generated, ...generated.slice(1)]), [
    /ConfigMap doorman-app is there twice/,
  ])
})

t.test('traces are off, and one line of the overlay turns them on, of both', async t => {
  const overlay = readSource('deploy/kubernetes/overlays/production/kustomization.yaml')
  const turnedOn = overlay.replace(/^ {2}# (- \.\.\/\.\.\/traces)$/m, '  $1')
  t.not(turnedOn, overlay, 'the line is there')
  for (const name of ['doorman-gateway', 'doorman-app']) {
    const without = literalsOf('base', name)
    t.notMatch([...without.keys()].join(), /OTEL/)
    const literals = literalsOf('traces', name)
    t.match(
      literals.get('OTEL_EXPORTER_OTLP_ENDPOINT'),
      /^http:\/\/collector\.observability\.svc:4318$/,
    )
    const { to, ports } = named('NetworkPolicy', 'to-collector').spec.egress[0]
    t.match(to[0].namespaceSelector.matchLabels, { 'kubernetes.io/metadata.name': 'observability' })
    t.equal(ports[0].port, 4318)
  }
  if (await whyNot()) return
  // An overlay of its own, beside the one that it is a copy of.
  const folder = mkdtempSync(join(realpathSync(tmpdir()), 'doorman-overlay-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  const place = join(folder, 'overlays/production')
  cpSync(join(FOLDER, 'overlays/production'), place, { recursive: true })
  for (const name of ['base', 'monitoring', 'custom-metrics', 'traces', 'migrate']) {
    cpSync(join(FOLDER, name), join(folder, name), { recursive: true })
  }
  const made = async () => {
    const { code, stdout, output } = await run('kubectl', ['kustomize', place], 60_000)
    t.equal(code, 0, output)
    return readManifests(stdout)
  }
  const traced = (documents: readonly Manifest[]) =>
    documents
      .filter(
        ({ kind, data = {} }) => kind === 'ConfigMap' && 'OTEL_EXPORTER_OTLP_ENDPOINT' in data,
      )
      .map(({ metadata }) => metadata.name.replace(/-\w+$/, ''))
  t.strictSame(traced(await made()), [])
  writeFileSync(join(place, 'kustomization.yaml'), turnedOn)
  const documents = await made()
  t.strictSame(traced(documents).sort(), ['doorman-app', 'doorman-gateway'])
  for (const document of documents) t.strictSame(await problemsOf(document), [], document.kind)
})

t.test('every selector finds the pods that it is meant for', async t => {
  const labels = workloads.map(({ spec }) => spec.template.metadata.labels as Labels)
  const finds = (selector: Labels) => labels.filter(each => covers(each, selector)).length
  for (const { spec, metadata } of deployments) {
    t.ok(covers(spec.template.metadata.labels, spec.selector.matchLabels), metadata.name)
    for (const { labelSelector } of spec.template.spec.topologySpreadConstraints) {
      t.ok(covers(spec.template.metadata.labels, labelSelector.matchLabels), 'its own spread')
    }
    t.strictSame(named('HorizontalPodAutoscaler', metadata.name).spec.scaleTargetRef, {
      apiVersion: 'apps/v1',
      kind: 'Deployment',
      name: metadata.name,
    })
    t.ok(named('HorizontalPodAutoscaler', metadata.name).spec.minReplicas > 1, 'one may leave')
    t.equal(spec.replicas, undefined, 'the number is the autoscaler’s')
  }
  for (const { kind, spec, metadata } of [
    ...of('Service'),
    ...of('PodDisruptionBudget'),
    ...of('PodMonitor'),
  ]) {
    t.equal(finds(spec.selector.matchLabels ?? spec.selector), 1, `${kind} ${metadata.name}`)
  }
})

t.test(
  'probes, services and monitors name ports that the images open, and paths that answer',
  async t => {
    for (const { spec, metadata } of deployments) {
      const [container] = spec.template.spec.containers
      const ports = new Map<string, number>(
        container.ports.map((port: { name: string; containerPort: number }) => [
          port.name,
          port.containerPort,
        ]),
      )
      const image = images[metadata.name as keyof typeof images]
      t.strictSame([...ports.values()], image.ports)
      for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe']) {
        t.equal(container[probe].httpGet.port, 'admin', probe)
        t.match(
          container[probe].httpGet.path,
          probe === 'readinessProbe' ? /^\/readyz$/ : /^\/livez$/,
        )
      }
      const service = named('Service', metadata.name)
      for (const { targetPort } of service.spec.ports) {
        t.equal(targetPort, 'http', 'the admin port has no Service')
      }
      for (const endpoint of named('PodMonitor', metadata.name).spec.podMetricsEndpoints) {
        t.match(endpoint, { port: 'admin', path: '/metrics' })
      }
    }
    t.equal(named('Service', 'doorman-app').spec.clusterIP, 'None')
    const upstreams = literalsOf('base', 'doorman-gateway').get('APP_UPSTREAMS')
    t.equal(
      upstreams,
      `dns:http://doorman-app:${named('Service', 'doorman-app').spec.ports[0].port}`,
    )
  },
)

t.test(
  'gateway and app take the environment of their pods, in production, without a warning',
  async t => {
    const folder = mkdtempSync(join(tmpdir(), 'doorman-pods-'))
    t.teardown(() => rmSync(folder, { recursive: true, force: true }))
    const made = new Map(doormanSecrets())
    made.set('gateway/TENANT_REGISTRY_DB_URL', 'postgres://registry:none@registry.example/registry')
    for (const [name, text] of made) {
      mkdirSync(dirname(join(folder, name)), { recursive: true })
      writeFileSync(join(folder, name), text)
    }
    const envOf = (name: string) => {
      const [pod] = podsOf(named('Deployment', `doorman-${name}`))
      const given: { name: string; value: string }[] = pod.containers[0].env
      const literals = [
        ...literalsOf('base', `doorman-${name}`),
        ...literalsOf('overlays/production', `doorman-${name}`),
        ...literalsOf('traces', `doorman-${name}`),
      ]
      return {
        NODE_ENV: 'production',
        ...Object.fromEntries(literals),
        ...Object.fromEntries(
          given.map(({ name: variable, value }) => [
            variable,
            value.replace('/run/secrets/doorman', join(folder, name)),
          ]),
        ),
      }
    }
    const gateway = readGatewayConfig(envOf('gateway'))
    t.strictSame(gateway.warnings, [])
    t.equal(gateway.config.DRAIN_TIMEOUT_MS, 45_000)
    const app = readAppConfig(envOf('app'))
    t.strictSame(app.warnings, [])
    t.equal(app.drainNoticeMs, 3000)
    t.throws(() => readAppConfig({ ...envOf('app'), TENANT_CONTEXT_PUBLIC_KEYS_FILE: '' }))
  },
)

t.test('a pod has the time that its drain takes', async t => {
  for (const { spec, metadata } of deployments) {
    const settings = literalsOf('base', metadata.name)
    const drainMs = Number(settings.get('DRAIN_TIMEOUT_MS'))
    const noticeMs = Number(settings.get('DRAIN_NOTICE_MS'))
    const { readinessProbe } = spec.template.spec.containers[0]
    t.ok(spec.template.spec.terminationGracePeriodSeconds * 1000 >= drainMs + 5000, metadata.name)
    t.ok(drainMs >= 2 * noticeMs)
    if (metadata.name === 'doorman-gateway') {
      const seenMs = readinessProbe.periodSeconds * readinessProbe.failureThreshold * 1000
      t.ok(noticeMs > seenMs, 'not ready is seen before the listener closes')
    }
  }
})

t.test('every container is nobody, on a read-only root, with bounded memory', async t => {
  const pods = workloads.flatMap(podsOf)
  t.equal(pods.length, 3)
  for (const pod of pods) {
    t.match(pod, {
      automountServiceAccountToken: false,
      securityContext: {
        runAsNonRoot: true,
        runAsUser: 1000,
        seccompProfile: { type: 'RuntimeDefault' },
      },
    })
    for (const container of containersOf(pod)) {
      t.strictSame(container.securityContext, {
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      })
      t.ok(container.resources.limits.memory)
      t.ok(container.resources.requests.cpu)
      for (const arg of container.args ?? []) {
        if (arg.endsWith('.ts')) t.ok(existsSync(join(ROOT, arg)), arg)
      }
    }
  }
})

t.test('secrets are files of Secrets that are made, and only who needs one has it', async t => {
  const made = [...doormanSecrets().keys(), 'gateway/TENANT_REGISTRY_DB_URL']
  for (const pod of workloads.flatMap(podsOf)) {
    const volume = pod.volumes.find(({ name }: { name: string }) => name === 'secrets')
    const [, folder] = volume.secret.secretName.split('doorman-')
    for (const container of containersOf(pod)) {
      const mount = container.volumeMounts.find(({ name }: { name: string }) => name === 'secrets')
      for (const { name, value } of container.env) {
        const secret = name.replace(/_FILE$/, '')
        t.ok((SECRET_NAMES as readonly string[]).includes(secret), name)
        t.equal(value, `${mount.mountPath}/${secret}`)
        t.ok(made.includes(`${folder}/${secret}`), `${folder}/${secret} is made`)
        const items = volume.secret.items as { key: string }[] | undefined
        t.ok(items === undefined || items.some(({ key }) => key === secret), `${secret} is mounted`)
      }
    }
  }
  const [app] = podsOf(named('Deployment', 'doorman-app'))
  t.notMatch(JSON.stringify(app), /MASTER|SIGNING|REGISTRY|ADMIN_API/)
  t.notOk(
    all.some(({ kind }) => kind === 'Secret'),
    'no manifest holds a secret',
  )
})

t.test(
  'only gateways reach apps and the Registry, and only Prometheus the admin ports',
  async t => {
    const policies = of('NetworkPolicy')
    t.strictSame(named('NetworkPolicy', 'deny-all').spec, {
      podSelector: {},
      policyTypes: ['Ingress', 'Egress'],
    })
    const rules = policies.flatMap(({ spec, metadata }) => [
      ...(spec.ingress ?? []).map((rule: object) => ({
        name: metadata.name,
        way: 'in',
        pods: spec.podSelector,
        ...rule,
      })),
      ...(spec.egress ?? []).map((rule: object) => ({
        name: metadata.name,
        way: 'out',
        pods: spec.podSelector,
        ...rule,
      })),
    ])
    const portsOf = (rule: { ports: { port: number }[] }) => rule.ports.map(({ port }) => port)
    const gateway = { matchLabels: { 'app.kubernetes.io/name': 'doorman-gateway' } }
    for (const rule of rules) t.ok(rule.ports?.length > 0, `${rule.name}: no rule is for all ports`)
    const into = (port: number) =>
      rules.filter(rule => rule.way === 'in' && portsOf(rule).includes(port))
    t.strictSame(
      into(3000).map(({ from }) => from),
      [[{ podSelector: gateway }]],
      'apps',
    )
    t.strictSame(
      into(9090).map(({ from }) => from),
      [undefined],
      'anybody',
    )
    for (const port of [9091, 3001]) {
      const [admin, ...more] = into(port)
      t.strictSame(more, [])
      t.match(admin?.from[0], {
        namespaceSelector: {},
        podSelector: { matchLabels: { 'app.kubernetes.io/name': 'prometheus' } },
      })
    }
    const registry = named('NetworkPolicy', 'to-registry').spec
    t.notMatch(JSON.stringify(registry.podSelector), /doorman-app/)
    const [registryBlock] = registry.egress[0].to
    for (const name of ['to-tenant-databases', 'to-buckets']) {
      t.notMatch(named('NetworkPolicy', name).spec.egress[0].to, [registryBlock], name)
    }
    t.strictSame(
      [...new Set(rules.flatMap(portsOf))].sort(),
      [3000, 3001, 4318, 443, 53, 5432, 9090, 9091],
    )
  },
)

t.test(
  'what the Prometheus operator gets are the rules, and the adapter knows the autoscalers’ metrics',
  async t => {
    const file = 'deploy/kubernetes/monitoring/prometheus-rule.yaml'
    t.equal(
      readSource(file),
      asPrometheusRule(readSource('deploy/prometheus/rules.yml')),
      'node deploy/prometheus/main.ts',
    )
    const adapter = parse(readSource('deploy/kubernetes/custom-metrics/adapter-rules.yaml'))
    const known = adapter.rules.custom.map(
      ({ seriesQuery }: { seriesQuery: string }) => seriesQuery.split('{')[0],
    )
    const asked = [
      ...readSource('deploy/kubernetes/custom-metrics/kustomization.yaml').matchAll(
        /metric: \{ name: (\w+) \}/g,
      ),
    ]
    t.strictSame(
      asked.map(([, name]) => name),
      known,
    )
  },
)

function containerOf(spec: Manifest['spec']) {
  return spec.template.spec.containers[0]
}

function portOf(spec: Manifest['spec']) {
  return containerOf(spec).ports[0]
}

// biome-ignore lint/suspicious/noExplicitAny: of a manifest
function podsOf({ kind, spec }: Manifest): any[] {
  return kind === 'Deployment' || kind === 'Job' ? [spec.template.spec] : []
}

// biome-ignore lint/suspicious/noExplicitAny: of a manifest
function containersOf(pod: any): any[] {
  return [...(pod.initContainers ?? []), ...pod.containers]
}

function covers(labels: Labels, selector: Labels): boolean {
  return Object.entries(selector).every(([name, value]) => labels[name] === value)
}

function isSecret(name: string): boolean {
  return (SECRET_NAMES as readonly string[]).includes(name.replace(/_FILE$/, ''))
}

function literalsOf(folder: string, name: string): Map<string, string> {
  const maps = kustomizations.get(folder)?.configMapGenerator ?? []
  const literals = maps.find(map => map.name === name)?.literals ?? []
  return new Map(
    literals.map(literal => {
      const at = literal.indexOf('=')
      return [literal.slice(0, at), literal.slice(at + 1)]
    }),
  )
}

async function whyNot(): Promise<string | false> {
  const found = await run('kubectl', ['version', '--client'], 10_000).catch(() => null)
  return found?.code === 0 ? false : 'no kubectl on this machine'
}

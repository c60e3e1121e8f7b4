import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, normalize } from 'node:path'
import { parse, parseAllDocuments } from 'yaml'

/** One document of a manifest; of it tests read what they ask about. */
export interface Manifest {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: { readonly name: string; readonly labels?: Labels }
  // biome-ignore lint/suspicious/noExplicitAny: its shape is compared with Kubernetes' own schemas first
  readonly spec: any
  /** Of a ConfigMap. */
  readonly data?: Readonly<Record<string, string>>
}

export type Labels = Readonly<Record<string, string>>

export interface Kustomization {
  readonly kind: 'Kustomization' | 'Component'
  readonly resources?: readonly string[]
  readonly components?: readonly string[]
  readonly configMapGenerator?: readonly {
    readonly name: string
    readonly behavior?: string
    readonly literals: readonly string[]
  }[]
  readonly patches?: readonly {
    readonly target: { readonly kind: string; readonly name: string }
    readonly patch: string
  }[]
  readonly images?: readonly { readonly name: string; readonly newTag?: string }[]
}

/** Manifests and kustomizations below `root`, by path. */
export function readFolder(root: string): {
  manifests: Map<string, Manifest[]>
  kustomizations: Map<string, Kustomization>
} {
  const manifests = new Map<string, Manifest[]>()
  const kustomizations = new Map<string, Kustomization>()
  for (const name of readdirSync(root, { recursive: true, encoding: 'utf8' })) {
    if (!name.endsWith('.yaml') || name === 'custom-metrics/adapter-rules.yaml') continue
    const text = readFileSync(join(root, name), 'utf8')
    if (name.endsWith('kustomization.yaml')) kustomizations.set(dirname(name), parse(text))
    else manifests.set(name, readManifests(text))
  }
  return { manifests, kustomizations }
}

/** @throws Error of what is no YAML, or has a key twice */
export function readManifests(text: string): Manifest[] {
  return parseAllDocuments(text).map(document => {
    for (const error of document.errors) throw error
    return document.toJS()
  })
}

/** Everything that a kustomization is made of: itself, and what it names, as folders and files. */
export function partsOf(
  folder: string,
  kustomizations: ReadonlyMap<string, Kustomization>,
): string[] {
  const { resources = [], components = [] } = kustomizations.get(folder) ?? {}
  const parts = [...resources, ...components].map(path => normalize(join(folder, path)))
  return [
    folder,
    ...parts.flatMap(path => (kustomizations.has(path) ? partsOf(path, kustomizations) : [path])),
  ]
}

/** A JSON patch of additions (RFC 6902), which is all that ours use. */
export function patched(manifest: Manifest, patch: string): Manifest {
  const copy = structuredClone(manifest)
  for (const { op, path, value } of parse(patch) as {
    op: string
    path: string
    value: unknown
  }[]) {
    const keys = path.split('/').slice(1)
    const last = keys.pop()
    // biome-ignore lint/suspicious/noExplicitAny: it is walked by the keys of the patch
    let at: any = copy
    for (const key of keys) at = at[key]
    if (op !== 'add' || last !== '-' || !Array.isArray(at)) throw new Error(`${op} ${path}`)
    at.push(value)
  }
  return copy
}

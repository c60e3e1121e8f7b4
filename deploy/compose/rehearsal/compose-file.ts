import { readFileSync } from 'node:fs'
import { parse } from 'yaml'

/** One service, as far as our own compose files say anything of one. */
export interface Service {
  readonly image: string
  readonly entrypoint?: readonly string[]
  readonly command?: readonly string[]
  readonly environment?: Readonly<Record<string, string>>
  readonly secrets?: readonly string[]
  readonly networks: readonly string[]
  readonly ports?: readonly string[]
  readonly volumes?: readonly string[]
  readonly profiles?: readonly string[]
  readonly deploy?: { readonly replicas: number }
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>
  readonly healthcheck?: { readonly test: readonly string[] }
}

export interface ComposeFile {
  readonly services: Readonly<Record<string, Service>>
  readonly networks: Readonly<Record<string, { readonly internal?: boolean }>>
  readonly secrets: Readonly<Record<string, { readonly file: string }>>
}

type Tree = Record<string, unknown>

/** What several files with `-f` come to: maps are joined, lists of networks and ports too, the rest is replaced. */
export function readComposeFiles(files: readonly string[]): ComposeFile {
  const trees = files.map(file => parse(readFileSync(file, 'utf8'), { merge: true }) as Tree)
  return trees.reduce((joined, tree) => join(joined, tree)) as unknown as ComposeFile
}

/** Names of the services that `up` starts, each behind those that it depends on. */
export function startOrder({ services }: ComposeFile): string[] {
  const order: string[] = []
  const visit = (name: string): void => {
    const service = services[name]
    if (service === undefined) throw new Error(`there is no service ${name}`)
    if (order.includes(name)) return
    for (const needed of Object.keys(service.depends_on ?? {})) visit(needed)
    order.push(name)
  }
  for (const [name, { profiles }] of Object.entries(services)) if (!profiles) visit(name)
  return order
}

function join(one: Tree, other: Tree): Tree {
  const joined = { ...one }
  for (const [name, value] of Object.entries(other)) {
    const before = joined[name]
    if (Array.isArray(before) && Array.isArray(value) && /^(networks|ports)$/.test(name)) {
      joined[name] = [...before, ...value]
    } else if (isTree(before) && isTree(value)) joined[name] = join(before, value)
    else joined[name] = value
  }
  return joined
}

function isTree(value: unknown): value is Tree {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

import t from 'tap'
import { parse } from 'yaml'
import { OPERATIONS } from '../../registry/admin/api/operations.ts'
import { makeProgram } from '../../registry/cli/program.ts'
import { readFolder } from '../kubernetes/manifests.ts'
import { DOCS, ROOT, readSource } from './sources.ts'

/** What documents of operators have typed or asked for that stands in no source file by that name. */
const texts = new Map([...DOCS, '.env.example'].map(doc => [doc, readSource(doc)]))
const streams = { input: process.stdin, output: process.stdout, error: process.stderr }
const program = makeProgram(streams, {}, () => {})
const compose = parse(readSource('deploy/compose/compose.yaml'), { merge: true })
const docker = `docker compose -f deploy/compose/compose.yaml`

/** Each match of `pattern` in any document, with where it stands. */
function* found(pattern: RegExp): Generator<{ doc: string; words: string[] }> {
  for (const [doc, text] of texts) {
    for (const [, ...groups] of text.matchAll(pattern)) {
      yield { doc, words: groups.map(group => group ?? '') }
    }
  }
}

t.test('every verb of the command line, however it is called, has its options', async t => {
  let seen = 0
  const commands =
    /(?:npm run (?:-s )?(?:tenant|billing) --|registry\/cli\/main\.ts|\btenant --|run --rm (?:-T )?tenant|`tenant|`billing) ([a-z][a-z-]+)((?: [^`\n|;<]*)?)/g
  for (const [doc, text] of texts) {
    for (const [command, verb = '', rest = ''] of text.matchAll(commands)) {
      if (rest.startsWith('.') || /main\.ts`/.test(command)) continue
      const group = program.commands.find(each => each.name() === 'billing')
      const parent = /billing/.test(command.split(verb)[0] ?? '') ? group : program
      const known = parent?.commands.find(each => each.name() === verb)
      seen += 1
      if (!t.ok(known, `${doc}: ${command}`)) continue
      // A verb of its own below: admin-key create, billing freeze.
      const [, below = ''] = /^ ([a-z][a-z-]+)/.exec(rest) ?? []
      const inner = known?.commands.find(each => each.name() === below) ?? known
      for (const [, option = ''] of rest.matchAll(/ (--[a-z][a-z-]*)/g)) {
        const isThere = inner?.options.some(({ long }) => long === option)
        t.ok(isThere || option === '--help', `${doc}: ${command}: ${option}`)
      }
    }
  }
  t.ok(seen > 90, `commands are found: ${seen}`)
})

t.test('every path of the admin API is one that it answers', async t => {
  const known = new Set(
    OPERATIONS.flatMap(({ method, path }) => [path, `${method} ${path}`]).map(shaped),
  )
  known.add('/openapi.json')
  let seen = 0
  const paths = /(?:`(GET|POST|PATCH|PUT|DELETE) )?(?:\/api\/admin|\$api)(\/[\w:{}$/.-]*)/g
  for (const { doc, words } of found(paths)) {
    const [method = '', path = ''] = words
    const asked = shaped(path.replace(/[.:/]+$/, ''))
    if (asked === '') continue
    seen += 1
    const isKnown = known.has(
      method === '' || asked === '/openapi.json' ? asked : `${method} ${asked}`,
    )
    t.ok(isKnown, `${doc}: ${method} ${path}`)
  }
  t.ok(seen > 30, `paths are found: ${seen}`)
})

t.test('every metric that a document names is one that is shown', async t => {
  const shown = new Set(
    [...readSource('deploy/metrics.md').matchAll(/^\| `(\w+)`/gm)].map(([, name]) => name),
  )
  let seen = 0
  for (const { doc, words } of found(/`(doorman_[a-z0-9_]+)(?:\{[^}`]*\})?`/g)) {
    const [name = ''] = words
    if (/_$/.test(name) || SQL_NAMES.has(name)) continue
    seen += 1
    t.ok(shown.has(name) || shown.has(name.replace(/_(bucket|sum|count)$/, '')), `${doc}: ${name}`)
  }
  t.ok(seen > 60, `metrics are found: ${seen}`)
})

t.test('what compose and kubectl are asked about is in their files', async t => {
  const { manifests } = readFolder(`${ROOT}/deploy/kubernetes`)
  const kinds: Record<string, string> = { deploy: 'Deployment', job: 'Job' }
  const objects = [...manifests.values()].flat()
  let seen = 0
  for (const { doc, words } of found(/\b(deploy|job)\/(doorman-\w+)/g)) {
    const [kind = '', name = ''] = words
    seen += 1
    const isThere = objects.some(
      object => object.kind === kinds[kind] && object.metadata.name === name,
    )
    t.ok(isThere, `${doc}: ${kind}/${name}`)
  }
  for (const { doc, words } of found(
    /(?:compose|compose\.yaml) (?:run --rm (?:-T )?|logs -f )([a-z][a-z-]+)/g,
  )) {
    seen += 1
    t.ok(compose.services[words[0] as string], `${doc}: service ${words[0]}`)
  }
  for (const { doc, words } of found(
    / -n ([a-z]+) (?:exec|delete|wait|logs|create|rollout|port-forward)/g,
  )) {
    t.equal(words[0], 'doorman', `${doc}: namespace`)
  }
  t.ok(seen > 12, `they are found: ${seen}`)
  t.match(readSource('docs/deploy.md'), docker)
})

t.test('the base image that documents name is that of the images', async t => {
  const [, base = ''] = /^ARG NODE_IMAGE=(\S+)$/m.exec(readSource('Dockerfile.gateway')) ?? []
  t.match(base, /^docker\.io\/library\/node:\d+\.\d+\.\d+-\w+-slim$/, 'by its whole version')
  let seen = 0
  for (const { doc, words } of found(/(docker\.io\/library\/node:[\w.-]+)/g)) {
    seen += 1
    t.equal(words[0], base, doc)
  }
  for (const { doc, words } of found(/(docker\.io\/library\/postgres:[\w.-]+)/g)) {
    t.equal(words[0], compose.services.postgres.image, doc)
  }
  t.ok(seen > 1)
})

/** Of functions and subscriptions, not metrics. */
const SQL_NAMES = new Set(['doorman_limit_problem', 'doorman_migrations'])

/** A path with all that stands for a value alike: `:id`, `ID`, `$ID`, `{id}`. */
function shaped(path: string): string {
  return path.replace(/\/(?::\w+|\{\w+\}|\$?[A-Z]+|\$\w+)(?=\/|$)/g, '/*')
}

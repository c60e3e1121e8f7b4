import { existsSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { makeRouter, parseRoutes } from '../../gateway/route.ts'
import { ERRORS, type ErrorCode, errorSpec } from '../../registry/lib/errors.ts'
import { demoTenants } from '../local/demo-tenants.ts'
import type { Keys } from '../local/keys.ts'
import { summary } from '../local/summary.ts'
import {
  anchorsOf,
  CODE_FOLDERS,
  DOCS,
  isTestFile,
  linksOf,
  ROOT,
  readSource,
  sourceFiles,
  testNamesOf,
  withoutFences,
} from './sources.ts'

/** Constants in backquotes are as good as variables: they are looked for in the code. */
const code = sourceFiles()
  .filter(file => !isTestFile(file))
  .map(readSource)
  .join('\n')
const sourcesOf = (folder: RegExp) =>
  sourceFiles()
    .filter(file => folder.test(file) && !isTestFile(file))
    .map(readSource)
    .join('\n')
/** Where the words of each program are declared. */
const SOURCE_OF = {
  start: sourcesOf(/^deploy\/local\//),
  'start:gateway': sourcesOf(/^gateway\/main\.ts$/),
  bench: sourcesOf(/^bench\//),
  tenant: sourcesOf(/^registry\/cli\//),
  'db:tenant-migrate': sourcesOf(/^migrations\//),
} as const
const codes = Object.keys(ERRORS) as ErrorCode[]
const manifest = JSON.parse(readSource('package.json')) as {
  scripts: Record<string, string>
  dependencies: Record<string, string>
  devDependencies: Record<string, string>
}

t.test('the tables of failures agree with the code table', async t => {
  const rows = [...readSource('ARCHITECTURE.md').matchAll(/^\| \[`[A-Z_]+`\]\(deploy.*$/gm)]
  t.strictSame(
    rows.map(([row]) => row),
    codes.map(code => {
      const { status, blame, message, check } = errorSpec(code)
      const link = `[\`${code}\`](deploy/runbook.md#${code.toLowerCase()})`
      return `| ${link} | ${status} | ${blame} | ${message} | ${check} |`
    }),
  )
})

t.test(
  'the runbook has a heading for each code, and beside the alerts for nothing else',
  async t => {
    // The alerts that follow are compared by deploy/prometheus/rules.test.ts.
    const sections = readSource('deploy/runbook.md')
      .split(/^## /m)
      .slice(1)
      .filter(section => !section.startsWith('Doorman'))
    t.strictSame(
      sections.map(section => section.split('\n')[0]),
      codes,
    )
    for (const [i, code] of codes.entries()) {
      const { status, blame, message, retryAfterS } = errorSpec(code)
      const retry = retryAfterS === undefined ? '' : ` · Retry-After ${retryAfterS} s`
      const [, , facts, , ...advice] = (sections[i] ?? '').trimEnd().split('\n')
      t.equal(facts, `${status} · blame: ${blame}${retry} · “${message}”`, code)
      const labels = advice.map(line => /^- \*\*(.+?):\*\* \S/.exec(line)?.[1])
      t.strictSame(labels, ['Means', 'Check first', 'Mend'], `${code}: what to do`)
    }
  },
)

t.test('every link leads somewhere, and a link to a test names one of its tests', async t => {
  for (const doc of DOCS) {
    for (const { text, file, anchor } of linksOf(doc)) {
      if (!existsSync(join(ROOT, file))) t.fail(`${doc}: no ${file}`)
      else if (anchor !== '') t.ok(anchorsOf(file).includes(anchor), `${doc}: ${file}#${anchor}`)
      else if (file.endsWith('.test.ts') && !text.endsWith('.ts')) {
        t.ok(testNamesOf(file).includes(text), `${doc}: ${file}: ${text}`)
      }
    }
  }
})

t.test('every invariant has its number and at least one test', async t => {
  const invariants = sectionOf('ARCHITECTURE.md', 'Invariants')
    .split(/^(?=\d+\. )/m)
    .slice(1)
  t.ok(invariants.length >= 20, 'they are found')
  for (const [i, text] of invariants.entries()) {
    t.ok(text.startsWith(`${i + 1}. `), `number ${i + 1}`)
    t.match(text, /\]\([\w/.-]+\.test\.ts\)/, `${i + 1} is shown by a test`)
  }
})

t.test('every path in the documents exists', async t => {
  const top = [...CODE_FOLDERS, '.ci'].join('|').replace('.', '\\.')
  const isPath = new RegExp(`^(?:(?:${top})/[\\w./-]*|[\\w.-]+\\.(?:md|json|jsonc))$`)
  // Made by the benchmark and for compose, and not kept.
  const made = /^(bench\/(results|report\.html)|deploy\/compose\/secrets\/)/
  let seen = 0
  for (const doc of DOCS.filter(name => !name.startsWith('bench/'))) {
    for (const [, span = ''] of withoutFences(readSource(doc)).matchAll(/`([^`\n]+)`/g)) {
      if (!isPath.test(span) || made.test(span)) continue
      seen += 1
      t.ok(existsSync(join(ROOT, span)), `${doc}: ${span}`)
    }
  }
  t.ok(seen > 100, 'paths are found')
})

t.test('every npm verb in the documents exists', async t => {
  for (const doc of [...DOCS, '.env.example']) {
    for (const [, verb = ''] of readSource(doc).matchAll(/\bnpm run (?:-s )?([\w:-]+)/g)) {
      t.ok(manifest.scripts[verb], `${doc}: npm run ${verb}`)
    }
    for (const [, verb = ''] of readSource(doc).matchAll(/\bnpm (start|test)\b/g)) {
      t.ok(manifest.scripts[verb], `${doc}: npm ${verb}`)
    }
  }
  const listed = sectionOf('README.md', 'Verbs').matchAll(/^\| `npm (?:run )?([\w:-]+)/gm)
  const verbs = [...listed].map(([, verb]) => verb as string)
  t.strictSame(verbs.sort(), Object.keys(manifest.scripts).sort(), 'README lists all of them')
})

t.test('every command in the documents has its verbs, options and files', async t => {
  let seen = 0
  for (const doc of [...DOCS, '.env.example']) {
    const text = readSource(doc)
    for (const [command, program = '', words = ''] of text.matchAll(
      /\bnpm (?:run (?:-s )?)?(start|bench|tenant|db:tenant-migrate|start:gateway) -- ([^`\n|)<;]*)/g,
    )) {
      const [verb = ''] = words.trim().split(/[\s,.]/)
      const source = SOURCE_OF[program as keyof typeof SOURCE_OF]
      if (program === 'tenant' && /^[a-z]/.test(verb)) {
        seen += 1
        t.match(source, new RegExp(`['\`]${verb}[ '\`]`), `${doc}: ${command}`)
      }
      for (const [, option = ''] of words.matchAll(/ --([a-z][a-z-]*)/g)) {
        const isThere = new RegExp(`--${option}\\b|^ +'?${option}'?: \\{ type`, 'm').test(source)
        t.ok(isThere, `${doc}: ${command}: --${option}`)
      }
    }
    for (const [, file = ''] of text.matchAll(
      /\b(?:node|npx tap(?: --\S+)?|-f|-k|sh) ([\w.-]+\/[\w./-]+)/g,
    )) {
      seen += 1
      t.ok(existsSync(join(ROOT, file)), `${doc}: ${file}`)
    }
  }
  t.ok(seen > 60, 'commands are found')
})

t.test('every variable in the guides and the runbook is one that is read', async t => {
  const known = new Set(
    [...readSource('.env.example').matchAll(/^#?([A-Z][A-Z0-9_]*)=/gm)].map(([, name]) => name),
  )
  const ofOthers = /^(NODE_IMAGE|NODE_OPTIONS|NODE_EXTRA_CA_CERTS|DOORMAN_[A-Z_]+)$/
  let seen = 0
  for (const doc of DOCS.filter(name => /^(docs|deploy)\//.test(name))) {
    for (const [, name = ''] of readSource(doc).matchAll(
      /`([A-Z][A-Z0-9]*_[A-Z0-9_]*)(?:=[^`]*)?`/g,
    )) {
      if (name in ERRORS || ofOthers.test(name) || name.endsWith('_')) continue
      seen += 1
      const constant = new RegExp(`\\b${name}\\b`)
      const isThere =
        known.has(name) || known.has(name.replace(/_FILE$/, '')) || constant.test(code)
      t.ok(isThere, `${doc}: ${name}`)
    }
  }
  t.ok(seen > 60, 'variables are found')
})

t.test('the routes that a guide shows are routes that the gateway takes', async t => {
  const blocks = readSource('docs/existing-api.md').matchAll(/^```json\n([\s\S]*?)^```/gm)
  const tables = [...blocks].map(([, json = '']) => parseRoutes(json))
  t.equal(tables.length, 1)
  const find = makeRouter(tables[0] ?? [])
  t.equal(find('POST', '/v1/sessions')?.credential, 'login')
  t.equal(find('DELETE', '/v1/sessions')?.revokes, true)
  t.equal(find('GET', '/v1/anything/else')?.credential, 'access_token')
  t.equal(find('GET', '/elsewhere'), null)
})

t.test('the lines to paste in README are those that npm start prints', async t => {
  const ports = { gateway: 9090, gatewayAdmin: 9091, app: 3000, appAdmin: 3001 }
  const tenants = demoTenants(2, { seed: '' } as Keys)
  const printed = summary({ ports, tenants, dataDir: '.data', adminApiKey: 'printed' })
  const [, toPaste = ''] = printed.split('Try it:\n')
  const lines = toPaste.split('\n').filter(line => line.includes('curl '))
  t.equal(lines.length, 3)
  const readme = readSource('README.md').split('\n')
  for (const line of lines) t.ok(readme.includes(line.trim()), line)
})

t.test('the reasons for dependencies are those of package.json, no more and no less', async t => {
  const rows = [
    ...sectionOf('ARCHITECTURE.md', 'Dependencies').matchAll(/^\| `(.+?)` \| .{5,} \|$/gm),
  ]
  t.strictSame(
    rows.map(([, name]) => name),
    [...Object.keys(manifest.dependencies), ...Object.keys(manifest.devDependencies)],
  )
})

t.test('the figures of the cache table are those of the code', async t => {
  const rows = sectionOf('ARCHITECTURE.md', 'Caches, queues and pools').split('\n')
  let seen = 0
  for (const row of rows.filter(line => line.startsWith('| '))) {
    const files = [...row.matchAll(/`([\w/-]+\.ts)`/g)].map(([, file]) => file as string)
    for (const [, name = '', figure = ''] of row.matchAll(/`(\w+)` \(([\d,]+)\)/g)) {
      seen += 1
      t.ok(
        figuresOf(name, files).includes(Number(figure.replaceAll(',', ''))),
        `${name} is ${figure} in ${files.join(', ')}`,
      )
    }
  }
  t.ok(seen > 40, 'figures are found')
})

/** Values that `name` is given in `.env.example` or in one of `files`. */
function figuresOf(name: string, files: readonly string[]): number[] {
  const variable = new RegExp(`^#?${name}=(\\d+)$`, 'm').exec(readSource('.env.example'))
  if (variable !== null) return [Number(variable[1])]
  const given = new RegExp(`\\b${name}(?: =|:| \\?\\?) ([\\d_]+(?: \\* [\\d_]+)*)`, 'g')
  return files.flatMap(file =>
    [...readSource(file).matchAll(given)].map(([, text = '']) =>
      text.split(' * ').reduce((product, part) => product * Number(part.replaceAll('_', '')), 1),
    ),
  )
}

/** The text below a heading of the second level. */
function sectionOf(doc: string, heading: string): string {
  const section = readSource(doc)
    .split(/^## /m)
    .find(text => text.startsWith(`${heading}\n`))
  if (section === undefined) throw new Error(`${doc} has no section ${heading}`)
  return section
}

import t from 'tap'
import { importsOf, isTestFile, loadsOf, readSource, sourceFiles } from './sources.ts'

/** Layers of DESIGN section 2. An import goes down, or stays inside its own room. */
function layerOf(file: string): { layer: number; room: string } {
  const [top = '', second = ''] = file.split('/')
  if (top === 'registry') {
    if (second === 'lib') return { layer: 0, room: 'registry/lib' }
    if (/^(tenant|context|envelope|connection)\.ts$/.test(second))
      return { layer: 1, room: 'registry/1' }
    return { layer: 2, room: 'registry/2' }
  }
  if (['gateway', 'app', 'migrations'].includes(top)) return { layer: 3, room: top }
  return { layer: 4, room: 'outside' }
}

/** They reach the binaries over HTTP or as child processes and import nothing of ours below. */
const OUTSIDE = 'outside'

const product = sourceFiles().filter(file => !isTestFile(file))

t.test('imports go down the layers, and never between gateway, app and migrations', async t => {
  t.ok(product.length > 50, 'the sources are found')
  for (const file of product) {
    const from = layerOf(file)
    for (const imported of importsOf(file)) {
      const to = layerOf(imported)
      const isAllowed = from.room === to.room || (to.layer < from.layer && from.room !== OUTSIDE)
      t.ok(isAllowed, `${file} imports ${imported}`)
    }
  }
})

t.test('no file loads itself by a detour', async t => {
  const graph = new Map(product.map(file => [file, loadsOf(file)]))
  const done = new Set<string>()
  const visit = (file: string, path: readonly string[]): void => {
    if (path.includes(file))
      return void t.fail([...path.slice(path.indexOf(file)), file].join(' > '))
    if (done.has(file)) return
    for (const imported of graph.get(file) ?? []) visit(imported, [...path, file])
    done.add(file)
  }
  for (const file of product) visit(file, [])
  t.equal(done.size, product.length)
})

t.test('product code never imports test code', async t => {
  for (const file of product) {
    for (const imported of importsOf(file)) t.notOk(isTestFile(imported), `${file} > ${imported}`)
  }
})

t.test('the environment is read by what is started, and by nothing else', async t => {
  const entries = /(^|\/)(main|run|start|[a-z]+-migrate|s3-server)\.ts$|^(bench|deploy)\//
  for (const file of product) {
    if (/process\.env\b/.test(readSource(file))) t.match(file, entries)
  }
})

t.test('the app knows neither Registry nor master key', async t => {
  for (const file of product.filter(name => name.startsWith('app/'))) {
    for (const imported of importsOf(file)) {
      t.notMatch(imported, /^registry\/(store|cache|watch|envelope|key-check|cli)/, file)
    }
  }
})

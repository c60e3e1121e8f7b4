import t from 'tap'
import { isTestFile, readSource, sourceFiles } from './sources.ts'

/** Names as they stand in the code of the binaries. */
function metricsInCode(): string[] {
  const names = new Set<string>()
  for (const file of sourceFiles()) {
    if (!/^(gateway|app|registry\/lib)\//.test(file) || isTestFile(file)) continue
    const source = readSource(file)
    for (const [, name = ''] of source.matchAll(/'(doorman_[a-z_]+)'/g)) names.add(name)
    for (const [, rest = ''] of source.matchAll(/`\$\{prefix\}([a-z_]+)`/g)) {
      for (const prefix of ['doorman_', 'doorman_app_']) names.add(prefix + rest)
    }
  }
  // The prefixes themselves.
  return [...names].filter(name => !name.endsWith('_')).sort()
}

t.test('every metric of the code is in the table, and the other way round', async t => {
  const rows = readSource('deploy/metrics.md').matchAll(
    /^\| `(doorman_\w+)` \| \w+ \| .{60,} \|$/gm,
  )
  const listed = [...rows].map(([, name]) => name as string)
  t.ok(listed.length > 60, 'they are found')
  t.strictSame(listed.sort(), metricsInCode())
})

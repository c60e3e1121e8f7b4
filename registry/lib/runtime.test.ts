import t from 'tap'
import { runtimeIsSafe } from './runtime.ts'

t.test('a Node before 22.23.2 is refused', async t => {
  for (const safe of ['v22.23.2', 'v22.24.0', 'v23.0.0', 'v24.21.0', 'v100.0.0']) {
    t.equal(runtimeIsSafe(safe), true, safe)
  }
  for (const unsafe of ['v20.20.9', 'v22.23.1', 'v22.9.9', 'v22.3.99', 'v9.99.99', '', 'odd']) {
    t.equal(runtimeIsSafe(unsafe), false, unsafe)
  }
  t.equal(runtimeIsSafe(process.version), true)
})

import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'
import { renderTable, SIMULATED, SIMULATED_REPLICAS, simulate } from './simulation.ts'

t.test('the table of ARCHITECTURE.md is what the simulation gives', async t => {
  const results = SIMULATED_REPLICAS.map(replicas => simulate({ ...SIMULATED, replicas }))
  const document = readFileSync(join(import.meta.dirname, '../../ARCHITECTURE.md'), 'utf8')
  t.ok(document.includes(renderTable(results)), renderTable(results))
  for (const { replicas, pools, movedByJoin, movedByLeave, loadMax } of results) {
    t.ok(pools <= 2 * SIMULATED.tenants, 'tenants × k pools at most')
    // Each of the k places of a tenant moves with probability 1/n.
    t.ok(movedByJoin < 2.2 / replicas && movedByLeave < 2.2 / replicas)
    t.ok(loadMax < 1.5)
  }
})

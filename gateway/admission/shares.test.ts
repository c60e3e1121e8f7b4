import { randomUUID } from 'node:crypto'
import { setImmediate as tick } from 'node:timers/promises'
import fc from 'fast-check'
import t from 'tap'
import { exchangeShares, type ShareKind } from '../../registry/admission-shares.ts'
import { Membership } from '../../registry/membership.ts'
import { RegistryStore } from '../../registry/store.ts'
import type { TenantId } from '../../registry/tenant.ts'
import { silent, startTestRegistry } from '../../registry/test-kit.ts'
import { divide, RESERVE, wholePart } from './share.ts'
import { type Demand, Shares } from './shares.ts'

const registry = await startTestRegistry()
const store = new RegistryStore({ url: registry.url, log: silent, poolMax: 4 })
t.teardown(async () => {
  await store.close()
  await registry.stop()
})

const TENANT = randomUUID() as string as TenantId
const KIND: ShareKind = 'rate'

/** A gateway process as far as parts go; nothing moves but by `turn`. */
class Process {
  readonly membership = new Membership({ store, log: silent, worker: 0, version: '1' })
  demand = 0
  /** The next answer of the Registry is lost on its way. */
  losesAnswer = false
  isDown = false
  readonly shares = new Shares({
    exchange: async turn => {
      if (this.isDown) throw new Error('the Registry is down')
      const answer = await exchangeShares(store, turn)
      if (!this.losesAnswer) return answer
      this.losesAnswer = false
      throw new Error('the answer is lost')
    },
    instance: () => this.membership.id,
    demands: isNear => {
      const demand: Demand = { tenant: TENANT, kind: KIND, demand: this.demand, held: 0 }
      return isNear(demand) ? [demand] : []
    },
    onChange: () => {},
    log: silent,
  })

  async join() {
    await this.membership.join()
    await this.turn()
  }

  async turn() {
    await this.shares.takeTurn().catch(() => {})
  }

  get part(): number {
    return this.shares.partOf(TENANT, KIND).share
  }

  /** It is silent from now on, as the Registry sees it. */
  async die() {
    await this.membership.leave()
    this.shares.close()
  }
}

async function rounds(processes: readonly Process[], count: number) {
  for (let i = 0; i < count; i++) for (const one of processes) await one.turn()
}

function sumOf(processes: readonly Process[]): number {
  return processes.reduce((sum, { part }) => sum + part, 0)
}

async function startProcesses(count: number): Promise<Process[]> {
  const processes = Array.from({ length: count }, () => new Process())
  for (const one of processes) await one.join()
  await rounds(processes, 3)
  return processes
}

async function endAll(processes: readonly Process[]) {
  for (const one of processes) await one.die()
}

t.test('processes that come and go have even parts, and never more than the whole', async t => {
  const processes = await startProcesses(3)
  for (const { part } of processes) t.ok(Math.abs(part - 1 / 3) < 1e-9, `${part}`)
  const joiner = new Process()
  await joiner.join()
  t.ok(joiner.part <= RESERVE / 4 + 1e-9, 'who comes waits until the others made room')
  t.ok(joiner.part > 0, 'and is not at nothing meanwhile')
  const all = [...processes, joiner]
  for (let i = 0; i < 3; i++) {
    for (const one of all) {
      await one.turn()
      t.ok(sumOf(all) <= 1 + RESERVE, `${sumOf(all)}`)
    }
  }
  for (const { part } of all) t.ok(Math.abs(part - 1 / 4) < 1e-9, `${part}`)
  await joiner.die()
  await rounds(processes, 3)
  for (const { part } of processes) t.ok(Math.abs(part - 1 / 3) < 1e-9, `${part}`)
  await endAll(processes)
})

t.test('where all of a tenant’s load comes to one process, that one gets nearly all', async t => {
  const processes = await startProcesses(4)
  const [first, second] = processes as [Process, Process]
  first.demand = 1
  await rounds(processes, 3)
  t.ok(first.part >= 0.95, `${first.part}`)
  t.ok(sumOf(processes) <= 1 + 1e-9)
  t.ok(second.part > 0, 'and the others are not at nothing')
  first.demand = 0
  second.demand = 1
  await rounds(processes, 4)
  t.ok(second.part >= 0.95, `${second.part} after the load has moved`)
  second.demand = 0
  await rounds(processes, 4)
  for (const { part } of processes) t.ok(Math.abs(part - 1 / 4) < 0.02, `${part} when all is calm`)
  await rounds(processes, 2)
  const [left] = await store.query('SELECT count(*)::int AS n FROM admission_shares', [])
  t.equal(left?.n, 0, 'and nothing is left in the Registry')
  await endAll(processes)
})

t.test('with the Registry down parts stay as they are', async t => {
  const processes = await startProcesses(2)
  const [first] = processes as [Process]
  first.demand = 1
  await rounds(processes, 4)
  const before = processes.map(({ part }) => part)
  for (const one of processes) one.isDown = true
  first.demand = 0
  await rounds(processes, 3)
  t.ok(sumOf(processes) <= 1 + 1e-9)
  t.ok((processes[1]?.part ?? 0) >= (before[1] ?? 0))
  for (const one of processes) one.isDown = false
  await rounds(processes, 4)
  await endAll(processes)
})

t.test(
  'property: whatever is lost, late or gone, the parts are never more than the whole',
  async t => {
    let seed = 7
    const random = (below: number) => {
      seed = (Math.imul(seed, 1_103_515_245) + 12_345) & 0x7fffffff
      return (seed >>> 8) % below
    }
    let processes = await startProcesses(3)
    let worst = 0
    for (let step = 0; step < 250; step++) {
      const one = processes[random(processes.length)] as Process
      switch (random(8)) {
        case 0:
          one.demand = [0, 0.1, 0.5, 1][random(4)] as number
          break
        case 1:
          one.losesAnswer = true
          break
        case 2:
          if (processes.length < 6) {
            const joiner = new Process()
            await joiner.join()
            processes.push(joiner)
          }
          break
        case 3:
          if (processes.length > 2) {
            await one.die()
            processes = processes.filter(other => other !== one)
          }
          break
        case 4:
          // Two at once: the Registry lets one go after the other.
          await Promise.all(processes.map(other => other.turn()))
          break
        default:
          await one.turn()
      }
      worst = Math.max(worst, sumOf(processes))
      if (step % 50 === 0) await tick()
    }
    t.ok(worst <= 1 + RESERVE + 1e-9, `${worst}`)
    for (const one of processes) one.demand = 1
    await rounds(processes, 5)
    const sum = sumOf(processes)
    t.ok(sum >= 0.9 && sum <= 1 + 1e-9, `${sum} at rest`)
    for (const { part } of processes) {
      t.ok(Math.abs(part - 1 / processes.length) < 0.05, `${part} of ${processes.length}`)
    }
    await endAll(processes)
  },
)

t.test(
  'property: what is divided is the whole, nobody is at nothing, little demand is met',
  async t => {
    const demands = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), {
      minLength: 1,
      maxLength: 40,
    })
    fc.assert(
      fc.property(demands, all => {
        const parts = divide(all)
        const sum = parts.reduce((total, part) => total + part, 0)
        if (Math.abs(sum - 1) > 1e-9) return false
        const fair = (1 - RESERVE) / all.length
        return parts.every((part, i) => part > 0 && part >= Math.min(all[i] as number, fair) - 1e-9)
      }),
    )
    const parts = divide([1, 0, 0, 0])
    t.ok((parts[0] as number) > 0.95, `${parts[0]}`)
  },
)

t.test(
  'property: whole parts of a limit add up to it, and to one for each where it is small',
  async t => {
    const weights = fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 12 })
    fc.assert(
      fc.property(weights, fc.integer({ min: 0, max: 1000 }), (all, max) => {
        const total = all.reduce((sum, one) => sum + one, 0)
        let ahead = 0
        let below = 0
        let sum = 0
        for (const weight of all) {
          const share = weight / total
          const part = wholePart(max, { share, ahead })
          if (part === 1 && max * share < 1) below++
          sum += part
          ahead += share
        }
        return max === 0 ? sum === 0 : sum >= Math.min(max, sum) && sum <= max + below
      }),
    )
    t.equal(wholePart(2, { share: 0.25, ahead: 0 }), 1)
    t.equal(wholePart(10, { share: 1, ahead: 0 }), 10)
  },
)

import { Gauge, type Registry } from 'prom-client'
import type { TenantId } from '../registry/tenant.ts'
import { REGISTERS, userMark } from './metering/user-sketch.ts'

export const AFFECTED_NAME = 'doorman_tenants_affected'
const SLOT_MS = 60_000
/** Five whole minutes, and the one that runs. */
const SLOTS = 6

/**
 * How many tenants met failures of late, whatever their number: HyperLogLogs of 16 KiB, one a minute, made where
 * there are failures (0.8 % standard error; nearly exact up to some hundreds).
 */
export class AffectedTenants {
  readonly #slots: { slot: number; readonly ranks: Uint8Array }[] = []

  /** A tenant's request has failed with a 5xx, whoever answered it. */
  note(tenant: TenantId, nowMs: number): void {
    const mark = userMark(tenant)
    const { ranks } = this.#slotAt(Math.floor(nowMs / SLOT_MS))
    const register = mark >> 6
    if ((mark & 63) > (ranks[register] as number)) ranks[register] = mark & 63
  }

  /** The registers that are not empty, for a union with those of other processes. */
  marks(nowMs: number): number[] {
    const first = Math.floor(nowMs / SLOT_MS) - SLOTS + 1
    const recent = this.#slots.filter(({ slot }) => slot >= first)
    return recent.length === 0 ? [] : marksOf(recent.map(({ ranks }) => ranks))
  }

  show(registry: Registry): void {
    const read = () => this.marks(Date.now())
    const gauge = new Gauge({
      name: AFFECTED_NAME,
      help: 'Tenants that got a 5xx in the last 5 minutes, an estimate (HyperLogLog, 1 %). One or few: see those tenants, the access log names them. As many as have traffic: the platform is at fault, see doorman_faults_total by code.',
      aggregator: 'max',
      registers: [registry],
    })
    const get = gauge.get.bind(gauge)
    gauge.get = async () => {
      const marks = read()
      // The registers go along to the primary: neither the sum nor the maximum of estimates is one.
      return { ...(await get()), values: [{ value: estimate(marks), labels: {}, marks }] }
    }
  }

  #slotAt(slot: number) {
    const found = this.#slots.find(known => known.slot === slot)
    if (found !== undefined) return found
    const oldest = this.#slots.length < SLOTS ? undefined : this.#slots.shift()
    oldest?.ranks.fill(0)
    const made = { slot, ranks: oldest?.ranks ?? new Uint8Array(REGISTERS) }
    this.#slots.push(made)
    return made
  }
}

interface Marked {
  readonly marks?: readonly number[]
}

/** The gauges of several processes as one. */
export function mergeAffected(values: readonly object[]) {
  const ranks = new Uint8Array(REGISTERS)
  for (const mark of values.flatMap(value => (value as Marked).marks ?? [])) {
    ranks[mark >> 6] = Math.max(ranks[mark >> 6] as number, mark & 63)
  }
  const marks = marksOf([ranks])
  return [{ value: estimate(marks), labels: {}, marks }]
}

function marksOf(sketches: readonly Uint8Array[]): number[] {
  const marks: number[] = []
  for (let register = 0; register < REGISTERS; register++) {
    let rank = 0
    for (const ranks of sketches) rank = Math.max(rank, ranks[register] as number)
    if (rank > 0) marks.push((register << 6) | rank)
  }
  return marks
}

/** HyperLogLog (Flajolet et al. 2007), with linear counting while registers are empty. */
function estimate(marks: readonly number[]): number {
  const empty = REGISTERS - marks.length
  const sum = marks.reduce((sum, mark) => sum + 2 ** -(mark & 63), empty)
  const raw = ((0.7213 / (1 + 1.079 / REGISTERS)) * REGISTERS ** 2) / sum
  const isSparse = raw <= 2.5 * REGISTERS && empty > 0
  return Math.round(isSparse ? REGISTERS * Math.log(REGISTERS / empty) : raw)
}

import { type FleetAnswer, type ReplicaSaid, replicasAnswer } from './answers.ts'
import { answerOf } from './gateway-item.ts'
import { VIA_ASKED_MAX } from './question.ts'
import type { GatewayQuestions, Reply } from './questions.ts'

/** What replicas tell of themselves, by origin. */
export type ReplicasSaid = ReadonlyMap<string, ReplicaSaid>

/** More questions than the first, each to VIA_ASKED_MAX gateways. One costs a tenth of a second, or 1 s where a gateway is silent. */
const ROUNDS_MAX = 2

/**
 * A gateway can ask a replica only in the name of a tenant that it serves there, so one that is idle can ask none. Where
 * those that were asked first could not, those are asked that say they can.
 *
 * @param read what all gateways told of the fleet, and some of them of the replicas
 */
export async function replicasSaid(
  questions: Pick<GatewayQuestions, 'ask'>,
  read: readonly { readonly reply: Pick<Reply, 'id'>; readonly answer: FleetAnswer | null }[],
): Promise<ReplicasSaid> {
  const said = new Map<string, ReplicaSaid>()
  for (const { origin, app } of read.flatMap(({ answer }) => answer?.replicas ?? [])) {
    if (app !== null) keepBetter(said, origin, app)
  }
  let able = read.map(({ reply, answer }) => ({
    id: reply.id,
    origins: (answer?.replicas ?? []).flatMap(one => (one.is_askable ? [one.origin] : [])),
  }))
  for (let round = 0; round < ROUNDS_MAX; round++) {
    const via = whoCanTell(able, new Set(said.keys()), VIA_ASKED_MAX)
    if (via.length === 0) break
    able = able.filter(({ id }) => !via.includes(id))
    const replies = await questions
      .ask(
        `replicas ${via}`,
        () => ({ kind: 'replicas', via }),
        all => all,
      )
      // Too many questions at once, or no Registry: the rest of the answer is there.
      .catch(() => [])
    for (const reply of replies) {
      for (const { origin, app } of answerOf(reply, replicasAnswer)?.replicas ?? []) {
        keepBetter(said, origin, app)
      }
    }
  }
  return said
}

/**
 * The ids of few gateways that together can ask the replicas that nobody told of: at each step the one that can ask most.
 *
 * @param told origins that are told of
 * @returns `max` at most
 */
export function whoCanTell(
  gateways: readonly { readonly id: string; readonly origins: readonly string[] }[],
  told: ReadonlySet<string>,
  max: number,
): string[] {
  const chosen: string[] = []
  const covered = new Set(told)
  while (chosen.length < max) {
    let best: (typeof gateways)[number] | null = null
    let most = 0
    for (const gateway of gateways) {
      const count = gateway.origins.filter(origin => !covered.has(origin)).length
      if (count > most) [best, most] = [gateway, count]
    }
    if (best === null) break
    chosen.push(best.id)
    for (const origin of best.origins) covered.add(origin)
  }
  return chosen
}

/** A state before a problem, for who could not be reached by one gateway may be by another; of two states the later. */
function keepBetter(said: Map<string, ReplicaSaid>, origin: string, app: ReplicaSaid): void {
  const present = said.get(origin)
  const isBetter =
    present === undefined ||
    (app.state !== null && (present.state === null || app.age_ms < present.age_ms))
  if (isBetter) said.set(origin, app)
}

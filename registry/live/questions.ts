import { randomUUID } from 'node:crypto'
import { setTimeout as delay } from 'node:timers/promises'
import { Fault } from '../lib/errors.ts'
import { type GatewayProcess, gatewayProcessOf, LIVE_MS } from '../membership.ts'
import type { RegistryStore } from '../store.ts'
import { type Question, questionNotice } from './question.ts'

/** A gateway process, and what it answered. */
export interface Reply extends GatewayProcess {
  readonly heartbeatAgeMs: number
  /** Null: it said nothing in time. */
  readonly answer: unknown
}

export interface QuestionsOptions {
  /** How long gateways have for an answer. */
  readonly deadlineMs?: number
  /** An answer is given out again for so long. */
  readonly freshMs?: number
  /** Questions that may be put in one second, and at once. */
  readonly perSecondMax?: number
}

/** How long gateways have. One that is gone without a word costs all of it, until it is no longer live. */
const DEADLINE_MS = 1_000
const FRESH_MS = 1_000
const PER_SECOND_MAX = 10
/** A question that would have to wait longer for its turn is refused. */
const TURN_WAIT_MS_MAX = 2_000
/** Answers are looked for after these pauses, in milliseconds; the last goes on. */
const LOOK_PAUSES_MS = [15, 25, 50, 75] as const

/** Old answers taken away with a question: more than questions bring, of several who ask none twice. */
const PRUNE_MAX = 1000

/** Who is there, those first that were heard of last. */
const MEMBERS = `
  SELECT id FROM gateway_instances WHERE heartbeat_at > clock_timestamp() - $1 * interval '1 ms'
  ORDER BY heartbeat_at DESC`

/** The notice goes out when this commits, to all that listen. What nobody took away of earlier answers goes. */
const PUT = `
  WITH gone AS (
    DELETE FROM gateway_answers WHERE (question_id, gateway_id) IN (
      SELECT question_id, gateway_id FROM gateway_answers
      WHERE answered_at < clock_timestamp() - interval '1 minute'
      LIMIT ${PRUNE_MAX} FOR UPDATE SKIP LOCKED)
  )
  SELECT pg_notify('gateway_asked', $1)`

/** Of those asked, how many are still there and have not answered. */
const COUNT_MISSING = `
  SELECT count(*)::int AS missing FROM gateway_instances g
  WHERE g.id = ANY ($2::uuid[]) AND NOT EXISTS (
    SELECT FROM gateway_answers a WHERE a.question_id = $1 AND a.gateway_id = g.id)`

/** Takes the answers away. One that left in order meanwhile is not missing. */
const TAKE = `
  WITH taken AS (
    DELETE FROM gateway_answers WHERE question_id = $1 RETURNING gateway_id, answer
  )
  SELECT g.id, g.host, g.pid, g.worker, g.address, g.version, g.started_at, taken.answer,
    greatest(0, extract(epoch FROM clock_timestamp() - g.heartbeat_at) * 1000)::int AS age_ms
  FROM gateway_instances g LEFT JOIN taken ON taken.gateway_id = g.id
  WHERE g.id = ANY ($2::uuid[]) ORDER BY g.host, g.worker, g.started_at`

/** Somebody who has said what was asked. */
const ANSWER = `
  INSERT INTO gateway_answers (question_id, gateway_id, answer) VALUES ($1, $2, $3)
  ON CONFLICT DO NOTHING`

/** A gateway's answer. @throws Fault REGISTRY_UNAVAILABLE */
export async function putAnswer(
  store: Pick<RegistryStore, 'query'>,
  questionId: string,
  gatewayId: string,
  answer: string,
): Promise<void> {
  await store.query(ANSWER, [questionId, gatewayId, answer])
}

interface Shared {
  readonly result: Promise<unknown>
}

/**
 * Asks all live gateways by way of the Registry: their internal listeners cannot be assumed to be reachable, and all
 * of them listen to the Registry.
 *
 * However many look at the same thing, it is asked once: while an answer is awaited, and for a second after it.
 * Different questions get their turns at a bounded pace, for each costs every gateway a little.
 */
export class GatewayQuestions {
  readonly #store: Pick<RegistryStore, 'query'>
  readonly #deadlineMs: number
  readonly #freshMs: number
  readonly #turnMs: number
  readonly #burstMs: number
  /** Leaves a while after its answer; new ones come at a bounded pace, so that it stays small. */
  readonly #shared = new Map<string, Shared>()
  /** Time at which all turns given so far are used up. */
  #turnsUntilMs = 0

  constructor(store: Pick<RegistryStore, 'query'>, options: QuestionsOptions = {}) {
    const { perSecondMax = PER_SECOND_MAX } = options
    this.#store = store
    this.#deadlineMs = options.deadlineMs ?? DEADLINE_MS
    this.#freshMs = options.freshMs ?? FRESH_MS
    this.#turnMs = 1000 / perSecondMax
    this.#burstMs = 1000 - this.#turnMs
  }

  /**
   * What `read` makes of the replies to a question, from memory where somebody asked the same a moment ago.
   *
   * @param name of the question, its parameters included: same name, same result
   * @param question made from the ids of the live gateways, those heard of last first
   * @throws Fault REGISTRY_UNAVAILABLE, OVERLOADED
   */
  ask<T>(
    name: string,
    question: (gatewayIds: readonly string[]) => Question,
    read: (replies: readonly Reply[]) => Promise<T> | T,
  ): Promise<T> {
    const known = this.#shared.get(name)
    if (known !== undefined) return known.result as Promise<T>
    const result = this.#askInTurn(question).then(read)
    this.#shared.set(name, { result })
    const forget = () => this.#shared.delete(name)
    result.then(() => setTimeout(forget, this.#freshMs).unref(), forget)
    return result
  }

  async #askInTurn(make: (ids: readonly string[]) => Question): Promise<readonly Reply[]> {
    const nowMs = performance.now()
    const turnMs = Math.max(this.#turnsUntilMs, nowMs - this.#burstMs)
    if (turnMs - nowMs > TURN_WAIT_MS_MAX) {
      throw new Fault('OVERLOADED', 'too many questions to the gateways at once')
    }
    this.#turnsUntilMs = turnMs + this.#turnMs
    if (turnMs > nowMs) await delay(turnMs - nowMs)
    return this.#put(make)
  }

  async #put(make: (ids: readonly string[]) => Question): Promise<readonly Reply[]> {
    const store = this.#store
    const members = (await store.query(MEMBERS, [LIVE_MS])).map(row => String(row.id))
    if (members.length === 0) return []
    const id = randomUUID()
    const deadline = performance.now() + this.#deadlineMs
    const question = make(members)
    const ids = members.filter(id => answers(question, id))
    if (ids.length === 0) return []
    await store.query(PUT, [questionNotice({ id, restMs: this.#deadlineMs, question })])
    for (let look = 0; ; look++) {
      const pauseMs = LOOK_PAUSES_MS[Math.min(look, LOOK_PAUSES_MS.length - 1)] as number
      const leftMs = deadline - performance.now()
      await delay(Math.max(1, Math.min(pauseMs, leftMs)))
      const [row] = await store.query(COUNT_MISSING, [id, ids])
      if (row?.missing === 0 || performance.now() >= deadline) break
    }
    const rows = await store.query(TAKE, [id, ids])
    return rows.map(row => ({
      ...gatewayProcessOf(row),
      heartbeatAgeMs: Number(row.age_ms),
      answer: readJson(row.answer),
    }))
  }
}

function answers(question: Question, gatewayId: string): boolean {
  return question.kind !== 'replicas' || question.via.includes(gatewayId)
}

function readJson(text: unknown): unknown {
  try {
    return typeof text === 'string' ? JSON.parse(text) : null
  } catch {
    return null
  }
}

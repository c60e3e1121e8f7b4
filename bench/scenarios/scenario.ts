import type { Job, Traffic } from '../load/job.ts'

export interface Scenario {
  readonly name: string
  /** What is asked for, in one line. */
  readonly title: string
  readonly kind: Job['kind']
  readonly connections: number
  readonly traffic: Traffic
  /** Slow and silent connections beside the measured ones; then latency is compared with that without them. */
  readonly flood: number
  /** Bytes of the right answer's body at least; the check before timing compares it with the upstream's. */
  readonly answerBytesMin: number
  /** Open loop: half of what each proxy can do itself (default), or half of the reference's for all. */
  readonly rate?: 'own' | 'reference'
  /** In `--quick` without names. */
  readonly isMain: boolean
}

export const SMALL_GET: Traffic = {
  method: 'GET',
  path: '/api/small',
  bodyBytes: 0,
  isLogin: false,
  tenants: 100,
  tokens: 1000,
  zipf: 0,
  isFresh: false,
}

/** Closed loop, 64 connections, warm traffic: what most scenarios vary in one point. */
export const WARM: Omit<Scenario, 'name' | 'title'> = {
  kind: 'closed',
  connections: 64,
  traffic: SMALL_GET,
  flood: 0,
  answerBytesMin: 80,
  isMain: false,
}

import { answer10k } from './answer-10k.ts'
import { answer100k } from './answer-100k.ts'
import { churn } from './churn.ts'
import { cold } from './cold.ts'
import { hot } from './hot.ts'
import { idle } from './idle.ts'
import { latency } from './latency.ts'
import { latencyEqual } from './latency-equal.ts'
import { login } from './login.ts'
import { post1k } from './post-1k.ts'
import { post64k } from './post-64k.ts'
import type { Scenario } from './scenario.ts'
import { slowClients } from './slow-clients.ts'
import { slowUpstream } from './slow-upstream.ts'
import { warm } from './warm.ts'
import { websocket } from './websocket.ts'
import { zipf } from './zipf.ts'

/** In the order in which they run. */
export const SCENARIOS: readonly Scenario[] = [
  hot,
  warm,
  cold,
  answer10k,
  answer100k,
  post1k,
  post64k,
  login,
  zipf,
  slowUpstream,
  websocket,
  churn,
  latency,
  slowClients,
  latencyEqual,
  idle,
]

import type { Sample } from '../lib/stalls.ts'

/** What the load generator is asked to do; plain data, for it is another process. */
export interface Job {
  readonly kind: 'closed' | 'open' | 'churn' | 'websocket' | 'idle' | 'flood'
  /** On 127.0.0.1. */
  readonly port: number
  readonly connections: number
  /** Requests are issued for that long; the last answers are waited for. */
  readonly seconds: number
  /** Arrivals per second; for `open` alone. */
  readonly ratePerS: number
  /** Connections that never become a request; for `flood` alone, which has no others. */
  readonly flood: number
  /** A request that finds no connection free is not sent at all, and counted; for `open` alone. */
  readonly drops?: boolean
  /** Each request by itself in the result; for `open` alone. */
  readonly keepsSamples?: boolean
  readonly traffic: Traffic
}

/** Who asks for what. */
export interface Traffic {
  readonly method: 'GET' | 'POST'
  readonly path: string
  /** Bytes of the request's JSON body. */
  readonly bodyBytes: number
  /** The tenant is named in the body, and there is no token. */
  readonly isLogin: boolean
  readonly tenants: number
  /** Distinct tokens, spread evenly over the tenants. */
  readonly tokens: number
  /** Exponent of the tenants' popularity; 0: all tokens in turn. */
  readonly zipf: number
  /** New tokens for each run, so that none was ever seen before. */
  readonly isFresh: boolean
}

export interface LoadResult {
  readonly requests: number
  /** Wrong status, wrong framing, or a connection that broke. */
  readonly errors: number
  readonly firstError: string | null
  readonly seconds: number
  /** Milliseconds. */
  readonly p50: number
  readonly p99: number
  readonly max: number
  /** Not sent, for no connection was free. */
  readonly dropped: number
  /** Empty unless the job asks for them. */
  readonly samples: readonly Sample[]
}

/** What both sides must know: the same tokens are good everywhere. */
export interface World {
  readonly jwtSecret: string
  readonly tenants: readonly { readonly id: string; readonly key: string }[]
}

/** Parent → generator. `prepare` renders requests and opens connections; `go` starts the clock. */
export type Command =
  | { readonly type: 'prepare'; readonly job: Job }
  | { readonly type: 'go' }
  | { readonly type: 'release' }

/** Tells which command a report answers, for one may come after the parent gave up on it. */
export interface Numbered<T> {
  readonly id: number
  readonly body: T
}

/** Generator → parent. */
export type Report =
  | { readonly type: 'ready' }
  | { readonly type: 'done'; readonly result: LoadResult }
  | { readonly type: 'failed'; readonly message: string }

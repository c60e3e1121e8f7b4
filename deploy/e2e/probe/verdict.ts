/** What came of one probe, seen from both ends of the gateway. */
export interface Outcome {
  /** Of the first final answer; null: none came. */
  readonly status: number | null
  /** Lower-case names; of several fields with one name the last. */
  readonly fields: ReadonlyMap<string, string>
  /** Chunked framing is taken off. */
  readonly body: string
  /** Final answers in all. */
  readonly answers: number
  readonly hasInterim: boolean
  readonly isClosed: boolean
  /** Of the probe's second message; null where the connection had ended. */
  readonly second: { readonly status: number | null; readonly answers: number } | null
}

export type Verdict = 'pass' | 'warn' | 'fail'

/** How an outcome is scored. `text` says what passes and what warns, for the table. */
export interface Rule {
  readonly text: string
  readonly judge: (outcome: Outcome) => Verdict
  /** No answer may be the right one, so it is not waited for long. */
  readonly isSilenceRight?: boolean
  /** The connection is to end, so that is waited for. */
  readonly isCloseAwaited?: boolean
}

/** One message, or two on one connection, and the rule that scores what comes of it. */
export interface Probe {
  /** Our own name of it. */
  readonly id: string
  /** The test of Http11Probe that asks the same question; null: our own. */
  readonly peer: string | null
  /** What it follows from: RFC section or advisory. */
  readonly source: string
  /**
   * The message. `$T` stands for a target of its own, `$H` for Host and token, `$A` for the token alone,
   * `$L` for the bytes behind the head, `$X` for those of a plain GET in hex.
   */
  readonly send: string
  readonly then?: string
  readonly rule: Rule
  /**
   * `both`: scored in February 2026 (125 tests) and in the newest state (161). `now`: only in the newest.
   * `then`: only in February. `no`: not scored by Http11Probe.
   */
  readonly scored: 'both' | 'now' | 'then' | 'no'
}

const isServed = ({ status }: Outcome) => status !== null && status >= 200 && status < 300
const isDropped = ({ status, isClosed }: Outcome) => status === null && isClosed

/** One of `statuses`, or closed without an answer. */
export function refused(...statuses: number[]): Rule {
  const list = statuses.length === 0 ? [400] : statuses
  return {
    text: `${list.join('/')} or close`,
    judge: outcome => (isDropped(outcome) || list.includes(outcome.status ?? 0) ? 'pass' : 'fail'),
  }
}

/** One of `statuses` and nothing else. */
export function answered(...statuses: number[]): Rule {
  return {
    text: statuses.join('/'),
    judge: ({ status }) => (statuses.includes(status ?? 0) ? 'pass' : 'fail'),
  }
}

/** The same as `refused`, where the RFC lets a recipient be lenient: 2xx warns. */
export function refusedOrServed(...statuses: number[]): Rule {
  const rule = refused(...statuses)
  return {
    text: `${rule.text}; 2xx warns`,
    judge: outcome => (isServed(outcome) ? 'warn' : rule.judge(outcome)),
  }
}

/** 2xx is what is wanted; a refusal warns. */
export function servedOrRefused(): Rule {
  return {
    text: '2xx; 400 or close warns',
    judge: outcome => {
      if (isServed(outcome)) return 'pass'
      return isDropped(outcome) || outcome.status === 400 ? 'warn' : 'fail'
    },
  }
}

/** A message that has no end: 400, close, or silence. */
export const unfinished: Rule = {
  text: '400, close or silence',
  isSilenceRight: true,
  judge: ({ status }) => (status === null || status === 400 ? 'pass' : 'fail'),
}

export const served: Rule = {
  text: '2xx',
  judge: outcome => (isServed(outcome) ? 'pass' : 'fail'),
}

/** 2xx, and the body arrived as it was meant. */
export function echoes(body: string): Rule {
  return {
    text: `2xx with the body "${body}"`,
    judge: outcome => (isServed(outcome) && outcome.body === body ? 'pass' : 'fail'),
  }
}

export const notSwitched: Rule = {
  text: 'anything but 101',
  judge: ({ status, isClosed }) =>
    status === 101 || (status === null && !isClosed) ? 'fail' : 'pass',
}

/** 2xx and `isRight`; 2xx otherwise is `otherwise`. */
export function servedWith(
  text: string,
  isRight: (outcome: Outcome) => boolean,
  otherwise: Verdict = 'fail',
): Rule {
  return {
    text,
    judge: outcome => {
      if (!isServed(outcome)) return 'fail'
      return isRight(outcome) ? 'pass' : otherwise
    },
  }
}

/** What comes first is refused, or the connection ends with it: what comes second is never served. */
export const endsThere: Rule = {
  text: '400 or close; never a second answer',
  isCloseAwaited: true,
  judge: ({ status, isClosed, second, answers }) => {
    if (answers > 1) return 'fail'
    return status === 400 || (isClosed && second === null) ? 'pass' : 'fail'
  },
}

/** The body is consumed, so that what follows it is served as what it is; a refusal passes too. */
export const staysInStep: Rule = {
  text: '400, close, or two right answers; else warns',
  judge: outcome => {
    const { status, isClosed, second, answers } = outcome
    if (answers > 1) return 'warn'
    if (status === 400 || status === 417 || (isClosed && second === null)) return 'pass'
    if (!isServed(outcome)) return 'fail'
    return second?.answers === 1 && second.status === 200 ? 'pass' : 'warn'
  },
}

/** Name, test of Http11Probe, source, message, second message: what differs between probes of one rule. */
export type Row = readonly [
  id: string,
  peer: string | null,
  source: string,
  send: string,
  then?: string,
]

export function probes(scored: Probe['scored'], rule: Rule, rows: readonly Row[]): Probe[] {
  return rows.map(([id, peer, source, send, then]) => ({
    id,
    peer,
    source,
    send,
    ...(then === undefined ? {} : { then }),
    rule,
    scored,
  }))
}

import { Fault } from '../lib/errors.ts'

/** How far a test came. */
export type ProbeStep =
  | 'configuration'
  | 'address'
  | 'connect'
  | 'tls'
  | 'credentials'
  | 'database'
  | 'bucket'
  | 'query'
  | 'list'
  | 'write'

export interface ProbeResult {
  readonly ok: boolean
  /** Where it failed; null where it did not. */
  readonly step: ProbeStep | null
  /** For the operator: made of words of ours, never of what a server said, which may repeat a secret. */
  readonly message: string
  readonly took_ms: number
}

/** Steps and words for errors of sockets, DNS and TLS, by Node's code. */
const NETWORK: Readonly<Record<string, readonly [ProbeStep, string]>> = {
  ENOTFOUND: ['connect', 'the host name is not known'],
  EAI_AGAIN: ['connect', 'the host name cannot be looked up at the moment'],
  ECONNREFUSED: ['connect', 'nothing listens at this host and port'],
  ECONNRESET: ['connect', 'the connection was reset'],
  EHOSTUNREACH: ['connect', 'the host cannot be reached'],
  ENETUNREACH: ['connect', 'the host cannot be reached'],
  ETIMEDOUT: ['connect', 'no answer in time'],
  EPIPE: ['connect', 'the connection was reset'],
  EPROTO: ['tls', 'the server does not speak TLS as it should'],
  ERR_TLS_CERT_ALTNAME_INVALID: ['tls', 'the certificate is for another name'],
  CERT_HAS_EXPIRED: ['tls', 'the certificate has expired'],
  DEPTH_ZERO_SELF_SIGNED_CERT: ['tls', 'the certificate is not signed by a trusted CA'],
  SELF_SIGNED_CERT_IN_CHAIN: ['tls', 'the certificate is not signed by a trusted CA'],
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: ['tls', 'the certificate is not signed by a trusted CA'],
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: ['tls', 'the certificate is not signed by a trusted CA'],
}

/** What an error of the network means; null where it is something else. Causes are looked at too. */
export function networkProblem(error: unknown): readonly [ProbeStep, string] | null {
  for (let cause = error, depth = 0; cause instanceof Error && depth < 5; depth++) {
    if (cause instanceof Fault) return ['address', cause.reason]
    const known = NETWORK[String((cause as NodeJS.ErrnoException).code)]
    if (known !== undefined) return known
    const [first] = cause instanceof AggregateError ? cause.errors : []
    cause = first ?? cause.cause
  }
  return null
}

export interface ServerTimeouts {
  /** From a head's first byte (or from the accept) to its last. */
  readonly headMs: number
  /** Between two pieces of a request body, while its consumer wants them. */
  readonly bodyIdleMs: number
  /** Stretch over which `bodyBytesPerSMin` is looked at. */
  readonly bodyRateWindowMs: number
  /** Between an answer and the next request. */
  readonly keepAliveMs: number
  /** How long a client may leave a full socket unread. */
  readonly writeStallMs: number
  /**
   * How long, after a client has closed its side, an answer may make no progress: hardly any client
   * closes one side only, so this is mostly how soon a departure is noticed.
   */
  readonly halfCloseMs: number
  /** How long the client has to take a last answer and close. */
  readonly lingerMs: number
}

export interface ServerLimits {
  /** Request line and fields together. */
  readonly headBytesMax: number
  /** Header fields. */
  readonly headFieldsMax: number
  /** Bytes a second of a request body while its consumer wants them; 0: any. */
  readonly bodyBytesPerSMin: number
  /** Bytes of a body that nobody read which are dropped before the connection is given up. */
  readonly dropBytesMax: number
}

export interface AcceptLimits {
  /** Open connections. */
  readonly connectionsMax: number
  /**
   * Open connections from one address, or one IPv6 network of 64 bits, that does not carry many clients:
   * it cannot take all of them, not even with requests that it never ends.
   */
  readonly connectionsPerAddressMax: number
}

export const STANDARD_TIMEOUTS: ServerTimeouts = {
  headMs: 10_000,
  bodyIdleMs: 30_000,
  bodyRateWindowMs: 20_000,
  keepAliveMs: 65_000,
  writeStallMs: 60_000,
  halfCloseMs: 1000,
  lingerMs: 2000,
}

export const STANDARD_LIMITS: ServerLimits & AcceptLimits = {
  headBytesMax: 16 * 1024,
  headFieldsMax: 100,
  bodyBytesPerSMin: 100,
  dropBytesMax: 64 * 1024,
  connectionsMax: 20_000,
  connectionsPerAddressMax: 10_000,
}

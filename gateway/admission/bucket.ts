/**
 * A token bucket as two numbers in a typed array, so that a request changes numbers in place and allocates nothing:
 * the tokens, and the time (ms, of a clock that never goes back) up to which they have come in.
 */
export type Bucket = Float64Array

export function makeBucket(capacity: number, nowMs: number): Bucket {
  return Float64Array.of(capacity, nowMs)
}

/** Takes a token. False: there is none, and nothing changed but the time. */
export function takeToken(bucket: Bucket, capacity: number, perMs: number, nowMs: number): boolean {
  const tokens = settle(bucket, capacity, perMs, nowMs)
  if (tokens < 1) return false
  bucket[0] = tokens - 1
  return true
}

/** Brings in what has come since; a time before the last one (requests that overtook each other) brings nothing. */
export function settle(bucket: Bucket, capacity: number, perMs: number, nowMs: number): number {
  const sinceMs = nowMs - (bucket[1] as number)
  let tokens = bucket[0] as number
  if (sinceMs > 0) {
    bucket[1] = nowMs
    tokens += sinceMs * perMs
  }
  // Also where the limit was lowered meanwhile.
  if (tokens > capacity) tokens = capacity
  bucket[0] = tokens
  return tokens
}

/** Whole seconds until there is a token, at least 1: what Retry-After can say. */
export function secondsToToken(bucket: Bucket, perMs: number): number {
  const missing = 1 - (bucket[0] as number)
  return Math.max(1, Math.ceil(missing / perMs / 1000))
}

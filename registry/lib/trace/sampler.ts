/**
 * Whether a trace is kept.
 *
 * @param parent whether the caller keeps it; null: there is none whose word counts
 */
export type Sampler = (parent: boolean | null, traceId: string) => boolean

/** Those of the OpenTelemetry specification that need no server (OTEL_TRACES_SAMPLER). */
export const SAMPLERS = [
  'always_on',
  'always_off',
  'traceidratio',
  'parentbased_always_on',
  'parentbased_always_off',
  'parentbased_traceidratio',
] as const

export type SamplerName = (typeof SAMPLERS)[number]

/** @param ratio share of the traces that begin here, 0 to 1; of the two `traceidratio` alone */
export function makeSampler(name: SamplerName, ratio: number): Sampler {
  const root = rootOf(name.replace('parentbased_', ''), ratio)
  if (!name.startsWith('parentbased_')) return (_, traceId) => root(traceId)
  return (parent, traceId) => parent ?? root(traceId)
}

function rootOf(name: string, ratio: number): (traceId: string) => boolean {
  if (name === 'always_on') return () => true
  if (name === 'always_off') return () => false
  // By the bits that Level 2 says are random, so that whoever samples by the same id keeps the same traces.
  const threshold = Math.round(ratio * 2 ** 52)
  if (threshold === 2 ** 52) return () => true
  // As text: hex digits of one length and case are in the order of their numbers, and need not be read.
  const hex = threshold.toString(16).padStart(13, '0')
  return traceId => traceId.slice(19) < hex
}

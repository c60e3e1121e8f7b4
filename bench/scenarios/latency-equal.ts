import { latency } from './latency.ts'
import type { Scenario } from './scenario.ts'

/**
 * The same traffic for all. At half of itself a faster proxy gets more requests than a slower one, and
 * so does the core that generator and upstream share: here both are out of the comparison.
 */
export const latencyEqual: Scenario = {
  ...latency,
  name: 'latency-equal',
  title: 'open loop at half of the saturation of the reference, for all; latency added over direct',
  rate: 'reference',
  isMain: false,
}

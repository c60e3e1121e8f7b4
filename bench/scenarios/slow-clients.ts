import { type Scenario, WARM } from './scenario.ts'

/** Fault matrix: the p99 of good clients may rise by a fifth at most. */
export const slowClients: Scenario = {
  ...WARM,
  name: 'slow-clients',
  title: 'open loop at half of its own saturation, beside 3,000 slow and silent connections',
  kind: 'open',
  connections: 256,
  flood: 3000,
}

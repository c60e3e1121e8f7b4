import { type Scenario, WARM } from './scenario.ts'

/** Each proxy at half of what itself can do, each time beside the upstream alone at the same rate. */
export const latency: Scenario = {
  ...WARM,
  name: 'latency',
  title: 'open loop at half of its own saturation; latency added over direct',
  kind: 'open',
  connections: 256,
  isMain: true,
}

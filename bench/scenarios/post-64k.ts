import { type Scenario, SMALL_GET, WARM } from './scenario.ts'

export const post64k: Scenario = {
  ...WARM,
  name: 'post-64k',
  title: 'POST of 64 KB',
  traffic: { ...SMALL_GET, method: 'POST', bodyBytes: 64 * 1024 },
}

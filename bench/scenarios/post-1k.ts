import { type Scenario, SMALL_GET, WARM } from './scenario.ts'

export const post1k: Scenario = {
  ...WARM,
  name: 'post-1k',
  title: 'POST of 1 KB',
  traffic: { ...SMALL_GET, method: 'POST', bodyBytes: 1024 },
  isMain: true,
}

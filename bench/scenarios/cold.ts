import { type Scenario, SMALL_GET, WARM } from './scenario.ts'

export const cold: Scenario = {
  ...WARM,
  name: 'cold',
  title: 'small JSON answer, 100,000 tokens never seen before',
  traffic: { ...SMALL_GET, tokens: 100_000, isFresh: true },
  isMain: true,
}

import { type Scenario, SMALL_GET, WARM } from './scenario.ts'

export const hot: Scenario = {
  ...WARM,
  name: 'hot',
  title: 'small JSON answer, one token',
  traffic: { ...SMALL_GET, tenants: 1, tokens: 1 },
}

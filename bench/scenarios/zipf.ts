import { type Scenario, SMALL_GET, WARM } from './scenario.ts'

export const zipf: Scenario = {
  ...WARM,
  name: 'zipf',
  title: '10,000 tenants by a Zipf law (exponent 1), 100,000 tokens',
  traffic: { ...SMALL_GET, tenants: 10_000, tokens: 100_000, zipf: 1 },
}

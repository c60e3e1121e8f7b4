import { type Scenario, WARM } from './scenario.ts'

export const warm: Scenario = {
  ...WARM,
  name: 'warm',
  title: 'small JSON answer, 1,000 tokens of 100 tenants',
  isMain: true,
}

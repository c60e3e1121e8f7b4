import { type Scenario, WARM } from './scenario.ts'

export const churn: Scenario = {
  ...WARM,
  name: 'churn',
  title: 'a new connection for each request',
  kind: 'churn',
}

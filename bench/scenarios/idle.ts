import { type Scenario, WARM } from './scenario.ts'

export const idle: Scenario = {
  ...WARM,
  name: 'idle',
  title: '10,000 idle keep-alive connections: memory each',
  kind: 'idle',
  connections: 10_000,
}

import { type Scenario, SMALL_GET, WARM } from './scenario.ts'

export const answer100k: Scenario = {
  ...WARM,
  name: 'answer-100k',
  title: 'answers of 100 KB',
  traffic: { ...SMALL_GET, path: '/api/100k' },
  answerBytesMin: 100_000,
}

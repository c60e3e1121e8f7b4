import { type Scenario, SMALL_GET, WARM } from './scenario.ts'

export const answer10k: Scenario = {
  ...WARM,
  name: 'answer-10k',
  title: 'answers of 10 KB',
  traffic: { ...SMALL_GET, path: '/api/10k' },
  answerBytesMin: 10_000,
  isMain: true,
}

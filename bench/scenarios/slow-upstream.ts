import { type Scenario, SMALL_GET, WARM } from './scenario.ts'

/** 512 connections, for 64 could ask for no more than 1,280 requests per second. */
export const slowUpstream: Scenario = {
  ...WARM,
  name: 'slow-upstream',
  title: 'upstream takes 50 ms, 512 connections',
  connections: 512,
  traffic: { ...SMALL_GET, path: '/api/slow' },
}

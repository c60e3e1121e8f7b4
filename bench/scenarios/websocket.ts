import { type Scenario, SMALL_GET, WARM } from './scenario.ts'

export const websocket: Scenario = {
  ...WARM,
  name: 'websocket',
  title: 'WebSocket echo of 100 bytes, 64 connections; one message counts as a request',
  kind: 'websocket',
  traffic: { ...SMALL_GET, path: '/api/ws' },
}

/** What of a month can have a price; `counter:NAME` is one that the app counts. */
export const METRICS = [
  'api_requests',
  'pdf_generated',
  'active_users',
  'storage_gb',
  'bytes_in',
  'bytes_out',
  'websockets',
  'websocket_minutes',
  'responses_2xx',
  'responses_3xx',
  'responses_4xx',
] as const

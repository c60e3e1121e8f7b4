import { type Dashboard, quantile, rate } from './dashboard.ts'

export const DATA_PLANE_DASHBOARD: Dashboard = {
  uid: 'doorman-data-plane',
  title: 'Doorman: data plane',
  rows: [
    {
      title: 'Requests',
      panels: [
        {
          title: 'By status',
          help: 'gone: the client left before an answer began.',
          unit: 'reqps',
          queries: { '{{status}}': 'sum by (status) (doorman:requests:rate5m)' },
        },
        {
          title: 'By route',
          help: 'Rows of the route table; none: refused before a route was found.',
          unit: 'reqps',
          queries: { '{{route}}': 'sum by (route) (doorman:requests:rate5m)' },
        },
        {
          title: 'Faults',
          help: 'By code; each has a heading in the runbook, which says whose fault it is.',
          unit: 'ops',
          queries: { '{{code}}': `sum by (code) (${rate('doorman_faults_total')})` },
        },
        {
          title: 'Whole time',
          help: 'From the request’s head to the last byte of the answer: downloads and slow readers included.',
          unit: 's',
          queries: {
            p50: quantile(0.5, 'doorman_request_seconds'),
            p99: 'doorman:request_seconds:p99_5m',
          },
        },
        {
          title: 'Time of the app',
          help: 'From the request being written to a replica until the head of its answer. If it rises, the app or a tenant database is slow.',
          unit: 's',
          queries: {
            p50: quantile(0.5, 'doorman_upstream_seconds'),
            p99: 'doorman:upstream_seconds:p99_5m',
          },
        },
        {
          title: 'Added by the gateway',
          help: 'Before the request is written to a replica, and from the replica’s head to the client’s. Above 10 ms: the loop is late, connections are short, or the Registry is asked.',
          unit: 's',
          queries: {
            p50: quantile(0.5, 'doorman_added_seconds'),
            p99: quantile(0.99, 'doorman_added_seconds'),
          },
        },
        {
          title: 'Time of the app by route',
          help: 'As the app measures it, the 99th percentile.',
          unit: 's',
          queries: { '{{route}}': quantile(0.99, 'doorman_app_request_seconds', 'le, route') },
        },
      ],
    },
    {
      title: 'Connections',
      panels: [
        {
          title: 'Client connections',
          help: 'Open ones; spliced WebSockets and event streams among them.',
          unit: 'short',
          queries: {
            connections: 'sum(doorman_client_connections)',
            'sockets and streams': 'sum(doorman_open_sockets)',
          },
        },
        {
          title: 'Connections to replicas',
          help: 'Open ones, and requests that wait for one: above 0 for long UPSTREAM_BUSY comes next.',
          unit: 'short',
          queries: {
            open: 'sum(doorman_upstream_connections)',
            waiting: 'sum(doorman_upstream_waiting)',
          },
        },
        {
          title: 'Streams of the app',
          help: 'Event streams (sse) and WebSockets (ws).',
          unit: 'short',
          queries: { '{{kind}}': 'sum by (kind) (doorman_app_streams)' },
        },
        {
          title: 'Cut by a cap',
          help: 'Refused connections and idle ones that made room: a flood, or CLIENT_CONNECTIONS_* too low.',
          unit: 'ops',
          queries: {
            '{{what}}': `sum by (what) (${rate('doorman_client_connections_cut_total')})`,
          },
        },
        {
          title: 'Never got to a request',
          help: 'Connections that ended within their PROXY header or TLS handshake, by reason.',
          unit: 'ops',
          queries: { '{{reason}}': `sum by (reason) (${rate('doorman_openings_failed_total')})` },
        },
      ],
    },
    {
      title: 'Protection',
      panels: [
        {
          title: 'Shed',
          help: 'loop is CPU, in-flight is an app that answers slowly. tenant: those that send or hold most; stranger: logins and new tokens; anybody: neither was enough.',
          unit: 'ops',
          queries: {
            '{{reason}}, {{whose}}': `sum by (reason, whose) (${rate('doorman_shed_requests_total')})`,
          },
        },
        {
          title: 'Token verifications under way',
          help: 'Of identity providers’ tokens. Near 128 for long: somebody sends tokens whose signature does not fit.',
          unit: 'short',
          queries: { '{{instance}}': 'sum by (instance) (doorman_token_verifications)' },
        },
        {
          title: 'Reads of key sets',
          help: 'By whose and outcome.',
          unit: 'ops',
          queries: {
            '{{whose}} {{outcome}}': `sum by (whose, outcome) (${rate('doorman_token_key_reads_total')})`,
          },
        },
        {
          title: 'Certificates',
          help: 'Until the first of them ends; and new files that were not taken over.',
          unit: 's',
          queries: {
            'ends in, {{instance}}': 'min by (instance) (doorman_certificate_expiry_seconds)',
            'refused (number), {{instance}}': 'max by (instance) (doorman_certificates_refused)',
          },
        },
        {
          title: 'Statements cancelled',
          help: 'Of clients that left: many cancelled: statements are slow. failed: cancel requests get lost.',
          unit: 'ops',
          queries: { '{{result}}': `sum by (result) (${rate('doorman_app_db_cancels_total')})` },
        },
        {
          title: 'Breakers that opened',
          help: 'Or stayed open after a probe.',
          unit: 'ops',
          queries: { '{{kind}}': `sum by (kind) (${rate('doorman_app_breaker_trips_total')})` },
        },
        {
          title: 'Spans for the collector',
          help: 'dropped: too many for the queue, keep fewer traces. failed: the collector refuses them or is away.',
          unit: 'ops',
          queries: {
            'gateway {{outcome}}': `sum by (outcome) (${rate('doorman_spans_total')})`,
            'app {{outcome}}': `sum by (outcome) (${rate('doorman_app_spans_total')})`,
          },
        },
        {
          title: 'Master keys',
          help: 'By id and use. Two that encrypt: a rotation that has not reached every gateway.',
          unit: 'short',
          queries: { '{{use}} {{key_id}}': 'sum by (use, key_id) (doorman_master_keys)' },
        },
      ],
    },
  ],
}

import { type Dashboard, quantile, rate } from './dashboard.ts'

export const TENANTS_DASHBOARD: Dashboard = {
  uid: 'doorman-tenants',
  title: 'Doorman: tenants',
  rows: [
    {
      title: 'Who is busy, who is hit',
      panels: [
        {
          title: 'Tenants that met a 5xx',
          help: 'In the last 5 minutes, an estimate, the most over all gateways. One or few: those tenants. As many as have traffic: the platform.',
          unit: 'short',
          kind: 'stat',
          queries: { tenants: 'max(doorman_tenants_affected)' },
        },
        {
          title: 'Busiest tenants',
          help: 'The ten with most requests, of METRICS_TENANTS_MAX in each worker; other: all the rest.',
          unit: 'reqps',
          queries: {
            '{{tenant}}': `topk(10, sum by (tenant) (${rate('doorman_tenant_requests_total')}))`,
          },
        },
        {
          title: '5xx of the busiest tenants',
          help: 'One of them alone: its database, bucket or plan. All of them: the platform.',
          unit: 'reqps',
          queries: {
            '{{tenant}}': `topk(10, sum by (tenant) (${rate('doorman_tenant_requests_total{status="5xx"}')}))`,
          },
        },
        {
          title: 'Time of the busiest tenants',
          help: 'Until the head of the answer, the mean. One that is slower than the others: its database or bucket.',
          unit: 's',
          queries: {
            '{{tenant}}': `sum by (tenant) (${rate('doorman_tenant_seconds_sum')}) / sum by (tenant) (${rate('doorman_tenant_seconds_count')})`,
          },
        },
      ],
    },
    {
      title: 'Whose resources fail',
      panels: [
        {
          title: 'Breakers open',
          help: 'Tenants whose database or bucket is not tried for a while. One: that tenant. Many at once: the server that they share. The access log names them by code.',
          unit: 'short',
          queries: { '{{kind}}': 'sum by (kind) (doorman_app_breakers_open)' },
        },
        {
          title: 'Failures of tenants’ resources',
          help: 'By reason, as the app met them.',
          unit: 'ops',
          queries: {
            '{{reason}}': `sum by (reason) (${rate('doorman_app_tenant_faults_total')})`,
          },
        },
        {
          title: 'Faults of the app',
          help: 'Answers by code; each has a heading in the runbook.',
          unit: 'ops',
          queries: { '{{code}}': `sum by (code) (${rate('doorman_app_faults_total')})` },
        },
        {
          title: 'Time-outs',
          help: 'connect, checkout, statement, idle_in_transaction.',
          unit: 'ops',
          queries: { '{{kind}}': `sum by (kind) (${rate('doorman_app_db_timeouts_total')})` },
        },
      ],
    },
    {
      title: 'Connections',
      panels: [
        {
          title: 'Connections to tenant databases',
          help: 'By state, of all replicas. Nearly all active: slow statements or small pools.',
          unit: 'short',
          queries: { '{{state}}': 'sum by (state) (doorman_app_db_connections)' },
        },
        {
          title: 'Budget in use',
          help: 'Of DB_GLOBAL_POOL_MAX, and of DB_HOST_POOL_MAX on the fullest database server. At 100 % tenants take turns.',
          unit: 'percentunit',
          queries: {
            'replica {{instance}}':
              'doorman_app_db_connections_used / doorman_app_db_connections_max',
            'fullest server, {{instance}}':
              'doorman_app_db_host_connections_used / doorman_app_db_host_connections_max',
          },
        },
        {
          title: 'Waiting for a connection',
          help: 'Requests, and tenants in line for the budget.',
          unit: 'short',
          queries: {
            requests: 'sum(doorman_app_pool_waiting)',
            'tenants in line': 'sum(doorman_app_pools_in_line)',
          },
        },
        {
          title: 'Wait for a connection',
          help: 'A few ms are a connect, hundreds a pool or a budget that is too small.',
          unit: 's',
          queries: {
            p50: quantile(0.5, 'doorman_app_pool_wait_seconds'),
            p99: quantile(0.99, 'doorman_app_pool_wait_seconds'),
          },
        },
        {
          title: 'Pools and clients',
          help: 'Tenant pools, S3 clients, and what uses them now.',
          unit: 'short',
          queries: {
            pools: 'sum(doorman_app_pools)',
            'pools in use': 'sum(doorman_app_pool_leases)',
            'S3 clients': 'sum(doorman_app_bucket_clients)',
            'file operations': 'sum(doorman_app_bucket_leases)',
          },
        },
        {
          title: 'Closed for others',
          help: 'turn at a steady rate: the budget is too small. pool: raise DB_POOLS_MAX.',
          unit: 'ops',
          queries: {
            '{{reason}}': `sum by (reason) (${rate('doorman_app_db_evictions_total')})`,
          },
        },
      ],
    },
    {
      title: 'Limits, holds and sessions',
      panels: [
        {
          title: 'Refused by a tenant’s limit',
          help: 'By limit; the access log says whose.',
          unit: 'ops',
          queries: { '{{limit}}': `sum by (limit) (${rate('doorman_admission_refused_total')})` },
        },
        {
          title: 'Waiting in line',
          help: 'Requests that wait for a connection to a replica, tenants taking turns, and how that ended. late and full are UPSTREAM_BUSY.',
          unit: 'short',
          queries: {
            waiting: 'sum(doorman_requests_queued)',
            '{{end}} in 5 min': 'sum by (end) (increase(doorman_queue_ends_total[5m]))',
          },
        },
        {
          title: 'Refusals kept for a while',
          help: 'Of tenants that flood. full: they were given at once, for REFUSALS_HELD_MAX waited already.',
          unit: 'short',
          queries: {
            waiting: 'sum(doorman_tarpit_waiting)',
            '{{end}} in 5 min': 'sum by (end) (increase(doorman_tarpit_total[5m]))',
          },
        },
        {
          title: 'Parts of the limits',
          help: 'What each process uses of all limits (the sum is 1), and the number of limits that it uses another part of.',
          unit: 'short',
          queries: {
            'part of {{instance}}': 'doorman_admission_share',
            'by demand, {{instance}}': 'doorman_admission_shares_by_demand',
          },
        },
        {
          title: 'Exchanges of parts',
          help: 'failed: the Registry cannot be asked, and the parts stay as they are.',
          unit: 'ops',
          queries: {
            '{{outcome}}': `sum by (outcome) (${rate('doorman_admission_share_turns_total')})`,
          },
        },
        {
          title: 'Quotas used up',
          help: 'Tenants that were found to have used up their month, in the last hour.',
          unit: 'short',
          queries: { '{{quota}}': 'sum by (quota) (increase(doorman_quota_events_total[1h]))' },
        },
        {
          title: 'Held',
          help: 'Tenants whose requests wait (moves, holds), and these requests.',
          unit: 'short',
          queries: {
            tenants: 'max(doorman_tenants_held)',
            requests: 'sum(doorman_requests_held)',
          },
        },
        {
          title: 'Tenants in memory',
          help: 'In the cache, active in the last minute, and ids known to be of no tenant (near 4,096: somebody tries).',
          unit: 'short',
          queries: {
            cached: 'max(doorman_cached_tenants)',
            'active in the last minute': 'max(doorman_admission_tenants)',
            absent: 'max(doorman_absent_tenants)',
          },
        },
        {
          title: 'Revoked tokens',
          help: 'Remembered, and not in the Registry yet.',
          unit: 'short',
          queries: {
            remembered: 'max(doorman_revoked_tokens)',
            unwritten: 'sum(doorman_revocations_unwritten)',
          },
        },
        {
          title: 'Served from memory',
          help: 'Tenants given out though the Registry could not be asked; look-ups that a change overtook.',
          unit: 'ops',
          queries: {
            stale: `sum(${rate('doorman_tenant_stale_answers_total')})`,
            overtaken: `sum(${rate('doorman_registry_lookups_overtaken_total')})`,
          },
        },
      ],
    },
    {
      title: 'Metering',
      panels: [
        {
          title: 'Usage not written for',
          help: 'Seconds since all that was counted was in the Registry.',
          unit: 's',
          queries: { '{{instance}}': 'max by (instance) (doorman_metering_age_seconds)' },
        },
        {
          title: 'Batches',
          help: 'refused above 0: usage was put aside in usage_refused. waits: the Registry did not take it, and why.',
          unit: 'ops',
          queries: {
            '{{outcome}}': `sum by (outcome) (${rate('doorman_metering_batches_total')})`,
            'waits: {{why}}': `sum by (why) (${rate('doorman_metering_failures_total')})`,
          },
        },
        {
          title: 'Not counted',
          help: 'What a bound kept out, writes to the journal that failed, and fields x-usage that are none.',
          unit: 'ops',
          queries: {
            'lost {{what}}': `sum by (what) (${rate('doorman_metering_lost_total')})`,
            'journal {{outcome}}': `sum by (outcome) (${rate('doorman_metering_journal_failures_total')})`,
            'x-usage {{why}}': `sum by (why) (${rate('doorman_usage_fields_ignored_total')})`,
          },
        },
      ],
    },
  ],
}

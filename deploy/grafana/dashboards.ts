/** A dashboard as it is reviewed: what is asked and why. `render.ts` makes Grafana's JSON of it. */
export interface Dashboard {
  /** Of the file, the URL and Grafana's own index. */
  readonly uid: string
  readonly title: string
  readonly rows: readonly Row[]
}

export interface Row {
  readonly title: string
  readonly panels: readonly Panel[]
}

export interface Panel {
  readonly title: string
  /** What a person on call learns from it. */
  readonly help: string
  /** Grafana's name of the unit. */
  readonly unit: 's' | 'short' | 'reqps' | 'percentunit' | 'bytes' | 'ops'
  readonly kind?: 'timeseries' | 'stat'
  /** PromQL by legend. */
  readonly queries: Readonly<Record<string, string>>
}

const rate = (metric: string) => `rate(${metric}[$__rate_interval])`
const quantile = (q: number, metric: string, by = 'le') =>
  `histogram_quantile(${q}, sum by (${by}) (${rate(`${metric}_bucket`)}))`

export const DASHBOARDS: readonly Dashboard[] = [
  {
    uid: 'doorman-fleet',
    title: 'Doorman: fleet',
    rows: [
      {
        title: 'Is it up',
        panels: [
          {
            title: 'Gateways up',
            help: 'Gateways that are scraped, and those that the Registry knows of (each worker is one).',
            unit: 'short',
            kind: 'stat',
            queries: {
              scraped: 'sum(up{job="doorman-gateway"})',
              'in the Registry': 'max(doorman_gateways_live)',
            },
          },
          {
            title: 'App replicas',
            help: 'Scraped, members of APP_UPSTREAMS, and those that tenants are spread on. The least over all gateways.',
            unit: 'short',
            kind: 'stat',
            queries: {
              scraped: 'sum(up{job="doorman-app"})',
              members: 'min(doorman_replicas)',
              healthy: 'min(doorman_replicas_healthy)',
            },
          },
          {
            title: 'Requests with a 5xx',
            help: 'Share of all requests. The alerts DoormanErrorsFast and DoormanErrorsSlow go by it.',
            unit: 'percentunit',
            kind: 'stat',
            queries: {
              '5 min': 'doorman:request_errors:ratio5m',
              '1 h': 'doorman:request_errors:ratio1h',
            },
          },
          {
            title: 'Registry last heard of',
            help: 'How stale a tenant can be at most. Above 30 s the Registry is away.',
            unit: 's',
            kind: 'stat',
            queries: { 'oldest gateway': 'max(doorman_registry_contact_age_seconds)' },
          },
        ],
      },
      {
        title: 'Gateways',
        panels: [
          {
            title: 'Requests by gateway',
            help: 'One that gets none is not in the balancer; one with most of them is alone there.',
            unit: 'reqps',
            queries: { '{{instance}}': `sum by (instance) (${rate('doorman_requests_total')})` },
          },
          {
            title: 'In flight',
            help: 'Rises without end: answers hang, or clients read slowly. The gateways are scaled by it.',
            unit: 'short',
            queries: { '{{instance}}': 'sum by (instance) (doorman_requests_in_flight)' },
          },
          {
            title: 'Event loop delay',
            help: 'Standing delay. Above OVERLOAD_LOOP_DELAY_MS (250) requests are shed.',
            unit: 's',
            queries: { '{{instance}}': 'max by (instance) (doorman_loop_delay_seconds)' },
          },
          {
            title: 'CPU',
            help: 'Cores in use. A process near one core has no more to give: add workers or gateways.',
            unit: 'short',
            queries: {
              '{{job}} {{instance}}': `sum by (job, instance) (${rate('process_cpu_seconds_total{job=~"doorman-.*"}')})`,
            },
          },
          {
            title: 'Memory',
            help: 'Resident. Rises without end: compare with the caches of the tenant dashboard.',
            unit: 'bytes',
            queries: {
              '{{job}} {{instance}}': 'process_resident_memory_bytes{job=~"doorman-.*"}',
            },
          },
          {
            title: 'File descriptors',
            help: 'Open ones as a share of what the process may have.',
            unit: 'percentunit',
            queries: {
              '{{job}} {{instance}}':
                'process_open_fds{job=~"doorman-.*"} / process_max_fds{job=~"doorman-.*"}',
            },
          },
          {
            title: 'Garbage collection',
            help: 'Seconds a second. Above a tenth the heap is too small for the load.',
            unit: 'percentunit',
            queries: {
              'gateway {{instance}}': `sum by (instance) (${rate('doorman_gc_seconds_sum')})`,
              'app {{instance}}': `sum by (instance) (${rate('doorman_app_gc_seconds_sum')})`,
            },
          },
          {
            title: 'Event loop at work',
            help: 'Share of a core in which the loop worked. Above 0.8 of its workers for long: add processes.',
            unit: 'short',
            queries: {
              'gateway {{instance}}': `sum by (instance) (${rate('doorman_loop_busy_seconds_total')})`,
              'app {{instance}}': `sum by (instance) (${rate('doorman_app_loop_busy_seconds_total')})`,
            },
          },
          {
            title: 'Caches',
            help: 'How full the fullest one is. At 100 % what it held is asked or computed again.',
            unit: 'percentunit',
            queries: {
              '{{cache}}':
                'max by (cache) (doorman_cache_entries) / max by (cache) (doorman_cache_entries_max)',
            },
          },
          {
            title: 'Workers',
            help: 'With --workers: those that serve, and the ends that nobody asked for.',
            unit: 'short',
            queries: {
              'ready {{instance}}': 'sum by (instance) (doorman_workers_ready)',
              'ended in 5 min, {{reason}}':
                'sum by (reason) (increase(doorman_worker_ends_total[5m]))',
            },
          },
        ],
      },
      {
        title: 'App replicas',
        panels: [
          {
            title: 'Requests by replica',
            help: 'Tenants have homes of k replicas, so that load differs; the bound is 1.25 of the mean within a home.',
            unit: 'reqps',
            queries: {
              '{{instance}}': `sum by (instance) (${rate('doorman_app_requests_total')})`,
            },
          },
          {
            title: 'Who serves whom',
            help: 'ejection: a replica failed several tenants. breaker: a tenant’s own database or bucket. respread: a tenant needs more replicas.',
            unit: 'ops',
            queries: { '{{event}}': `sum by (event) (${rate('doorman_fleet_events_total')})` },
          },
          {
            title: 'Requests beyond the first replica',
            help: 'Share of the requests that their tenant’s first replica did not serve. Much: the replicas are few for the load.',
            unit: 'percentunit',
            queries: {
              '{{choice}}': `sum by (choice) (${rate('doorman_fleet_choices_total')}) / scalar(sum(${rate('doorman_requests_total')}))`,
            },
          },
          {
            title: 'Retries',
            help: 'Attempts beyond the first; bounded to a fifth of the requests.',
            unit: 'ops',
            queries: {
              made: `sum(${rate('doorman_upstream_retries_total')})`,
              'refused by the budget': `sum(${rate('doorman_retries_refused_total')})`,
              'left in the budget (number)': 'min(doorman_retry_budget)',
            },
          },
        ],
      },
      {
        title: 'Registry',
        panels: [
          {
            title: 'Look-ups',
            help: 'A rise of error: the Registry is down or slow. ok without a change of load: caches that are too small.',
            unit: 'ops',
            queries: {
              '{{outcome}}': `sum by (outcome) (${rate('doorman_registry_lookup_seconds_count')})`,
            },
          },
          {
            title: 'Look-up time',
            help: 'The 99th percentile.',
            unit: 's',
            queries: { p99: quantile(0.99, 'doorman_registry_lookup_seconds') },
          },
          {
            title: 'The watch',
            help: 'gap: all tenants were read anew. listener-lost alone: something between drops silent connections.',
            unit: 'ops',
            queries: {
              '{{event}}': `sum by (event) (${rate('doorman_registry_watch_events_total')})`,
            },
          },
          {
            title: 'Connections to the Registry',
            help: 'By state; waiting above 0 for long: the Registry is slow, or REGISTRY_DB_POOL_MAX small.',
            unit: 'short',
            queries: { '{{state}}': 'sum by (state) (doorman_registry_connections)' },
          },
          {
            title: 'Gateways that hear changes',
            help: 'Below the number of gateways: those follow the Registry by their poll alone.',
            unit: 'short',
            queries: { healthy: 'sum(doorman_registry_listener_healthy)' },
          },
        ],
      },
    ],
  },
  {
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
            help: 'refused above 0: usage is lost to the invoices.',
            unit: 'ops',
            queries: {
              '{{outcome}}': `sum by (outcome) (${rate('doorman_metering_batches_total')})`,
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
  },
  {
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
            help: 'loop is CPU, in-flight is an app that answers slowly.',
            unit: 'ops',
            queries: { '{{reason}}': `sum by (reason) (${rate('doorman_shed_requests_total')})` },
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
  },
]

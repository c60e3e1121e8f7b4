import { type Dashboard, quantile, rate } from './dashboard.ts'

export const FLEET_DASHBOARD: Dashboard = {
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
}

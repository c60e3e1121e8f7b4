import t from 'tap'
import type { Sample } from '../measure.ts'
import { renderPage } from './page.ts'
import type { Results } from './results.ts'
import { renderTable } from './table.ts'

const sample = (cpuUs: number, errors = 0): Sample => ({
  cpuUs,
  requestsPerS: 1000,
  p50: 1,
  p99: 2,
  rssBytes: 2 ** 20,
  busy: 0.9,
  bytesPerConnection: Number.NaN,
  p99Ratio: Number.NaN,
  calmP99Ratio: Number.NaN,
  disturbed: Number.NaN,
  errors,
  firstError: errors > 0 ? 'status 502' : null,
})

const results: Results = {
  command: 'npm run bench -- warm',
  startedAt: '2026-01-01T00:00:00.000Z',
  machine: '2 × CPU',
  pinning: 'not pinned',
  rounds: 3,
  seconds: 1,
  peers: [{ name: 'doorman', version: '1', does: 'all <of> it', isFullJob: true }],
  scenarios: [
    {
      name: 'warm',
      title: 'small',
      kind: 'closed',
      reference: 'haproxy',
      peers: [
        { name: 'doorman', failure: null, samples: [sample(20), sample(44), sample(30, 7)] },
        { name: 'haproxy', failure: null, samples: [sample(40), sample(80), sample(50)] },
        { name: 'caddy', failure: 'ended: <script>alert(1)</script>', samples: [] },
      ],
    },
  ],
}

t.test('the page is self-contained, and what came from outside is escaped', async t => {
  const page = renderPage(results)
  t.notMatch(page, /https?:|src=|<link|@import|url\(/)
  t.notMatch(page, /<script/i)
  t.match(page, 'all &#60;of&#62; it')
  t.match(page, '30.0 (20.0–44.0)')
})

t.test('ratios are paired by round, failures and errors are told', async t => {
  const table = renderTable(results.scenarios[0] as Results['scenarios'][number])
  t.match(table, '0.55 (0.50-0.60)')
  t.match(table, '7 (status 502)')
  t.match(table, 'not measured: ended')
})

import type { FleetState } from '../../../live/fleet.ts'
import { call } from '../lib/api.ts'
import { percent, rate } from '../lib/format.ts'
import { h, html, type View } from '../lib/html.ts'
import { usePolled } from '../lib/poll.ts'
import { Link } from '../lib/route.ts'

const FLEET_MS = 10_000
const TOP = 100
const SHOWN_MAX = 8
/** Share of failed requests, and how many of a minute, from which a tenant is in trouble. */
const ERRORS_MIN = 0.01
const FAILED_MIN = 3

/** Busy tenants whose requests fail by us, wherever they are in the list; nothing where there is none. */
export function TenantsTrouble(): View | null {
  const fleet = usePolled('trouble', FLEET_MS, async signal => {
    const { result } = await call<FleetState>(`/fleet?top=${TOP}`, { signal, isPoll: true })
    return result
  })
  const troubled = (fleet.data?.top ?? [])
    .filter(
      ({ server_error_share: share, requests_per_s: perS }) =>
        share >= ERRORS_MIN && share * perS * 60 >= FAILED_MIN,
    )
    .sort((a, b) => b.server_error_share - a.server_error_share)
    .slice(0, SHOWN_MAX)
  return html`<div class="trouble" role="status">
    ${
      troubled.length === 0
        ? null
        : html`<strong><span aria-hidden="true">⚠ </span>Failing in the last minute:</strong>
            ${troubled.map(
              ({
                tenant_id: id,
                tenant_key: key,
                server_error_share: share,
                requests_per_s: perS,
              }) =>
                html`<span key=${id}>${h(Link, { to: `/tenants/${id}`, children: key ?? id })} ${percent(share)} of ${rate(perS)}/s</span>`,
            )}`
    }
  </div>`
}

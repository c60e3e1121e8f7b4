import { randomUUID } from 'node:crypto'
import { hostname } from 'node:os'
import type { RegistryStore } from './store.ts'

const LEASE_S = 60
const RENEW_MS = 10_000

/** Takes the lease where nobody has it, or renews it. */
const TAKE = `
  INSERT INTO usage_sweeps AS held (holder, host, expires_at)
  VALUES ($1, $2, now() + interval '${LEASE_S} s')
  ON CONFLICT (is_only) DO UPDATE
    SET holder = excluded.holder, host = excluded.host, expires_at = excluded.expires_at
    WHERE held.holder = excluded.holder OR held.expires_at < now()
  RETURNING holder`
const GIVE = 'DELETE FROM usage_sweeps WHERE holder = $1'

export interface SweepLease {
  /** Aborted where another one has it by now: this process could not renew it in time. */
  readonly lost: AbortSignal
  release(): Promise<void>
}

/** That of all sweeps this one goes on. @returns null: another one is under way @throws Fault REGISTRY_UNAVAILABLE */
export async function takeSweepLease(
  store: Pick<RegistryStore, 'query'>,
): Promise<SweepLease | null> {
  const holder = randomUUID()
  const take = async () => (await store.query(TAKE, [holder, hostname()])).length > 0
  if (!(await take())) return null
  const lost = new AbortController()
  let renewedAt = performance.now()
  const timer = setInterval(() => {
    take().then(
      isHeld => {
        if (isHeld) renewedAt = performance.now()
        else lost.abort()
      },
      () => {
        if (performance.now() - renewedAt > LEASE_S * 1000) lost.abort()
      },
    )
  }, RENEW_MS)
  timer.unref()
  return {
    lost: lost.signal,
    async release() {
      clearInterval(timer)
      await store.query(GIVE, [holder]).catch(() => {})
    },
  }
}

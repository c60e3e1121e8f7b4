import { randomBytes } from 'node:crypto'
import { LRUCache } from 'lru-cache'
import { networkOf } from '../../registry/lib/address.ts'
import { HmacSha256 } from '../../registry/lib/hmac.ts'
import type { Exchange } from '../exchange.ts'
import { FailureLimit } from './failure-limit.ts'
import { type LimitKey, limitKey } from './failure-sketch.ts'

/** Each `max` 0: no such limit. */
export interface LoginLimitOptions {
  /** Failures of one account of one tenant from one network. */
  readonly max: number
  /** Failures of one account of one tenant, from all networks in which it never signed in. */
  readonly perAccountMax: number
  /** Failures from one network, at all accounts and tenants. */
  readonly perAddressMax: number
  readonly windowMs: number
  /** Milliseconds of a clock that never goes back. */
  readonly now?: () => number
}

/** What an exchange holds while its attempt is under way. */
export interface LoginPass {
  readonly held: readonly { readonly limit: FailureLimit; readonly key: LimitKey }[]
  /** Account and network, to be remembered if the login is right. */
  readonly home: string | null
}

/** Accounts remembered with a network in which they signed in. Forgetting one takes only a privilege away. */
const HOMES_MAX = 65_536
const HOME_MS = 30 * 86_400_000

/**
 * Limits guesses of passwords and codes, before the Registry is asked or the app does any work, by what
 * the client sent alone: whether the tenant or the account exists makes no difference.
 *
 * Three limits, from narrow to wide. The narrow one is what stops a guesser; a stranger uses up only his
 * own. The one per account stops guesses from many networks; it would let strangers lock a user out, so
 * it does not hold in networks in which the account has signed in before. The one per network stops those
 * who try few passwords at many accounts.
 *
 * Only hashes under a key of this process are kept. Counted per process.
 */
export class LoginLimit {
  readonly #hash = new HmacSha256(randomBytes(32))
  readonly #narrow: FailureLimit | null
  readonly #perAccount: FailureLimit | null
  readonly #perAddress: FailureLimit | null
  readonly #homes = new LRUCache<string, true>({ max: HOMES_MAX, ttl: HOME_MS })

  constructor(options: LoginLimitOptions) {
    const { max, perAccountMax, perAddressMax, windowMs, now = () => performance.now() } = options
    const limit = (name: string, most: number) =>
      most === 0 ? null : new FailureLimit(name, most, windowMs, now)
    this.#narrow = limit('login', max)
    this.#perAccount = limit('login-account', perAccountMax)
    this.#perAddress = limit('login-address', perAddressMax)
  }

  /** Attempts' keys under way, of all three limits. */
  get size(): number {
    return [this.#narrow, this.#perAccount, this.#perAddress].reduce(
      (sum, limit) => sum + (limit?.size ?? 0),
      0,
    )
  }

  /**
   * Resolves when the attempt may be made, at once nearly always; `leave` must follow.
   *
   * @throws Fault LOGIN_LIMITED
   */
  async enter(exchange: Exchange, address: string): Promise<void> {
    const { route, tenantRef, account, principal } = exchange
    if (route === null || tenantRef === null) return
    const network = networkOf(address)
    const tenant = tenantRef.by === 'key' ? tenantRef.key : tenantRef.id
    const wanted: [FailureLimit | null, string][] = []
    let home: string | null = null
    if (route.credential === 'temp_token') {
      // Who holds one has given the right password: no stranger can use this one up.
      wanted.push([this.#narrow, `${route.name}\n${tenant}\n${principal?.sub}`])
    } else {
      const subject = `${tenant}\n${account ?? ''}`
      wanted.push([this.#narrow, `${route.name}\n${subject}\n${network}`])
      if (account !== null) home = this.#hash.tag(`home\n${subject}\n${network}`)
      if (home !== null && this.#homes.get(home) === undefined) {
        wanted.push([this.#perAccount, `${route.name}\n${subject}`])
      }
    }
    wanted.push([this.#perAddress, network])

    // Always in this order, so that no two attempts wait for each other.
    const held: { limit: FailureLimit; key: LimitKey }[] = []
    try {
      for (const [limit, text] of wanted) {
        if (limit === null) continue
        const key = limitKey(this.#hash.tag(text))
        await limit.enter(key)
        held.push({ limit, key })
      }
    } catch (error) {
      for (const { limit, key } of held) limit.leave(key, false)
      throw error
    }
    exchange.loginPass = { held, home }
  }

  /** Ends the attempt by what became of it. */
  leave(exchange: Exchange): void {
    const pass = exchange.loginPass
    if (pass === null) return
    exchange.loginPass = null
    const outcome = outcomeOf(exchange)
    for (const { limit, key } of pass.held) limit.leave(key, outcome === 'failed')
    if (outcome === 'right' && pass.home !== null) this.#homes.set(pass.home, true)
  }
}

/** `none`: nobody has judged it, so the client has learnt nothing. */
function outcomeOf({ route, attempts, errorCode, status }: Exchange): 'right' | 'failed' | 'none' {
  const isTried = attempts > 0 || errorCode === 'INVALID_CREDENTIALS'
  if (!isTried || status >= 500) return 'none'
  // Status 0: the client left. It counts at a tenant that exists as at one that does not.
  if (route?.counts === 'attempts' || status === 0 || status >= 400) return 'failed'
  return 'right'
}

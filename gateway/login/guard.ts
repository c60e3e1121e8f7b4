import { Fault } from '../../registry/lib/errors.ts'
import type { Exchange } from '../exchange.ts'
import type { Route } from '../route.ts'
import { LoginLimit, type LoginLimitOptions } from './login-limit.ts'
import { LoginPace, waitUntil } from './pace.ts'

export interface LoginGuardOptions {
  readonly limit: LoginLimitOptions
  readonly addressOf: (exchange: Exchange) => string
}

/** All that stands between the public and the login routes, beyond what other routes have. */
export class LoginGuard {
  readonly #limit: LoginLimit
  readonly #addressOf: (exchange: Exchange) => string
  /** One for each login route of the table. */
  readonly #paces = new Map<Route, LoginPace>()
  #underWay = 0

  constructor({ limit, addressOf }: LoginGuardOptions) {
    this.#limit = new LoginLimit(limit)
    this.#addressOf = addressOf
  }

  /** Logins that were let in and have not ended. */
  get underWay(): number {
    return this.#underWay
  }

  /**
   * Resolves when an exchange of a login route may be tried; others pass.
   *
   * @throws Fault LOGIN_LIMITED
   */
  async enter(exchange: Exchange): Promise<void> {
    const credential = exchange.route?.credential
    if (credential !== 'login' && credential !== 'temp_token') return
    await this.#limit.enter(exchange, this.#addressOf(exchange))
    // What `leave` goes by.
    if (credential === 'login' && exchange.loginPass !== null) this.#underWay++
  }

  /** null: `error` may be answered at once, as nearly all. Else it may once this resolves; never rejects. */
  pauseBefore(exchange: Exchange, error: unknown): Promise<void> | null {
    const { route, upstreamHeadAt, identifiedAt, status } = exchange
    if (!(error instanceof Fault) || error.code !== 'INVALID_CREDENTIALS') return null
    if (route?.credential !== 'login') return null
    const pace = this.#paceOf(route)
    // From here and not from the head: a client that holds its body back must not eat up the delay.
    if (upstreamHeadAt === 0) return waitUntil(identifiedAt + pace.drawMs(Math.random))
    pace.note(status, performance.now() - identifiedAt)
    return status === 401 ? null : waitUntil(identifiedAt + pace.drawOtherMs(Math.random))
  }

  /** Ends what `enter` began, once the exchange has ended. */
  leave(exchange: Exchange): void {
    const { route, status, upstreamHeadAt, identifiedAt, errorCode } = exchange
    if (route?.credential === 'login') this.#underWay--
    const isPassedOn = errorCode === null && status >= 400 && status < 500
    if (isPassedOn && route?.credential === 'login') {
      this.#paceOf(route).note(status, upstreamHeadAt - identifiedAt)
    }
    this.#limit.leave(exchange)
  }

  #paceOf(route: Route): LoginPace {
    let pace = this.#paces.get(route)
    if (pace === undefined) {
      pace = new LoginPace()
      this.#paces.set(route, pace)
    }
    return pace
  }
}

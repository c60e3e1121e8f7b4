import { Fault } from '../registry/lib/errors.ts'
import type { Tenant } from '../registry/tenant.ts'
import type { Admission } from './admission/admission.ts'
import type { Exchange } from './exchange.ts'
import type { Identifier } from './identify/identify.ts'
import type { LoginGuard } from './login/guard.ts'
import type { Overload, ShedReason, ShedWhose } from './overload.ts'

export interface SheddingOptions {
  readonly overload: Overload
  /** Requests being served, without the one in question and those that cost next to nothing. */
  readonly others: () => number
  readonly identifier: Pick<Identifier, 'knows'>
  readonly logins: Pick<LoginGuard, 'underWay'>
  readonly admission: Pick<Admission, 'inFlightByWeight'>
}

/**
 * Where in its life a request may be shed, each step as soon as what it decides by is known. While nothing is shed each
 * costs a comparison or two. Each throws Fault OVERLOADED.
 */
export interface Shedding {
  /** Once it has a head: where there is no room for anybody, or no other help. */
  atHead(): void
  /** Before its credential is looked at, the only step that garbage has to pay for. */
  beforeIdentify(exchange: Exchange): void
  /** Its body has come: from here on it counts as being served. */
  afterBody(exchange: Exchange): void
  /** Its tenant is proven or, at login, named: counts whom it is to be charged to. Never throws. */
  charge(exchange: Exchange): void
  /** Before it costs its tenant's limits or a replica: by its tenant's share. */
  afterResolve(exchange: Exchange): void
}

export function makeShedding(options: SheddingOptions): Shedding {
  const { overload, others, identifier, logins, admission } = options
  return {
    atHead() {
      const reason = overload.sheds(others())
      if (reason !== null) throw SHED[reason].anybody
    },

    beforeIdentify(exchange) {
      if (!overload.isCounting) return
      if (overload.fair.strangersPart > 0 && !identifier.knows(exchange)) {
        if (overload.shedsStranger()) throw SHED.loop.stranger
      }
      overload.fair.pass()
    },

    afterBody({ bufferedBody, route }) {
      if (bufferedBody === null) return
      const inFlight = others()
      if (overload.isFull(inFlight)) throw SHED['in-flight'].anybody
      // Anybody can send a login, in the name of any tenant: they are counted together, and as nobody's.
      const isLogin = route?.credential === 'login'
      if (isLogin && overload.hasNoRoom(logins.underWay, inFlight, 'stranger')) {
        throw SHED['in-flight'].stranger
      }
    },

    charge({ tenantRef }) {
      if (overload.isCounting && tenantRef?.by === 'id') overload.fair.charge(tenantRef.id)
    },

    afterResolve({ tenantRef, tenant }) {
      if (!overload.isCounting && !overload.isCrowded) return
      if (tenantRef?.by !== 'id') return
      const { id } = tenant as Tenant
      if (overload.isCounting && overload.shedsTenant(id)) throw SHED.loop.tenant
      if (!overload.isCrowded) return
      if (overload.hasNoRoom(admission.inFlightByWeight(id), others(), 'tenant')) {
        throw SHED['in-flight'].tenant
      }
    },
  }
}

const LATE = 'the event loop is late (OVERLOAD_LOOP_DELAY_MS)'
const MANY = 'too many requests in flight (IN_FLIGHT_MAX)'

/** Made once: a stack trace each would cost more than the answer. */
const SHED = {
  loop: {
    tenant: new Fault('OVERLOADED', `${LATE}, and its tenant sends more than its share`),
    stranger: new Fault('OVERLOADED', `${LATE}, and too much comes from nobody known`),
    anybody: new Fault('OVERLOADED', `${LATE}, whoever is shed`),
  },
  'in-flight': {
    tenant: new Fault('OVERLOADED', `${MANY}, and its tenant has most of them`),
    stranger: new Fault('OVERLOADED', `${MANY}, and logins are most of them`),
    anybody: new Fault('OVERLOADED', MANY),
  },
} as const satisfies Record<ShedReason, Record<ShedWhose, Fault>>

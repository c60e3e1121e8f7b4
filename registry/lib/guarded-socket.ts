import dns from 'node:dns'
import { isIP, type LookupFunction, Socket } from 'node:net'
import type { AddressPolicy } from './address.ts'
import { Fault } from './errors.ts'

/**
 * A DNS look-up that fails where any answer is refused. The addresses it returns are the ones that are
 * connected to, so a name that changes its mind between check and use (DNS rebinding) gains nothing.
 */
export function guardedLookup(policy: AddressPolicy): LookupFunction {
  return (host, options, callback) => {
    dns.lookup(host, { ...options, all: true }, (error, addresses) => {
      if (error !== null) {
        callback(error, '')
        return
      }
      const refused = addresses.find(({ address }) => !policy.mayConnect(host, address))
      const [first] = addresses
      if (refused !== undefined) callback(refusal(host), '')
      else if (options.all === true) callback(null, addresses)
      else callback(null, first?.address ?? '', first?.family)
    })
  }
}

/** @throws Fault TENANT_CONFIG_INVALID where `host` is an address that is refused (no look-up sees it) */
export function requireAllowedLiteral(policy: AddressPolicy, host: string): void {
  const bare = host.replace(/^\[(.*)\]$/, '$1')
  if (isIP(bare.replace(/%.*$/, '')) !== 0 && !policy.mayConnect(bare, bare)) throw refusal(host)
}

/** A socket for node-postgres: its `connect(port, host)` resolves by the guarded look-up. */
export function makeGuardedSocket(policy: AddressPolicy): Socket {
  const socket = new Socket()
  const connect = socket.connect.bind(socket)
  const lookup = guardedLookup(policy)
  const guarded = (port: unknown, host: unknown): Socket => {
    // One argument is the path of a Unix socket: the machine itself.
    if (typeof port !== 'number' || typeof host !== 'string') {
      process.nextTick(() => socket.destroy(refusal(String(port))))
      return socket
    }
    try {
      requireAllowedLiteral(policy, host)
    } catch (error) {
      process.nextTick(() => socket.destroy(error as Error))
      return socket
    }
    return connect({ port, host, lookup })
  }
  socket.connect = guarded as Socket['connect']
  return socket
}

function refusal(host: string): Fault {
  return new Fault('TENANT_CONFIG_INVALID', `${host} is a refused address: TENANT_ADDRESS_ALLOW`)
}

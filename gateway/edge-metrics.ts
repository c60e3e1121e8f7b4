import { Counter, Gauge, type Registry } from 'prom-client'
import type { OpeningFailure } from './http1/server-opening.ts'
import type { TlsKeys } from './tls/tls-keys.ts'

const REASONS: readonly OpeningFailure[] = [
  'untrusted',
  'proxy-header',
  'capped',
  'tls',
  'too-slow',
  'left',
]

/**
 * Shows the certificates, and counts the connections that ended before their first request.
 *
 * @returns to be called with the reason of each of those
 */
export function showEdge(
  registry: Registry,
  keys: TlsKeys | null,
): (reason: OpeningFailure) => void {
  const failures = new Counter({
    name: 'doorman_openings_failed_total',
    help: 'Connections that ended within their PROXY header or TLS handshake. tls rises: clients that speak plain HTTP, TLS below 1.2, or do not trust the certificate. untrusted: a load balancer that TRUSTED_PROXIES lacks, or someone who goes round it. left: mostly port checks.',
    labelNames: ['reason'] as const,
    registers: [registry],
  })
  showCertificates(registry, keys)
  for (const reason of REASONS) failures.inc({ reason }, 0)
  return reason => failures.inc({ reason })
}

function showCertificates(registry: Registry, keys: TlsKeys | null): void {
  gauge(
    'doorman_certificate_expiry_seconds',
    'Seconds until the first certificate ends. Below 14 days the log warns too. Alert on it: nothing renews a certificate here.',
    'min',
    tls => tls.expiresInS(Date.now()),
  )
  gauge(
    'doorman_certificates_refused',
    'Certificates with newer files that are not in use. Not 0: they could not be taken over; the log says which and why.',
    'max',
    tls => tls.refusedCount,
  )

  function gauge(
    name: string,
    help: string,
    aggregator: 'min' | 'max',
    read: (keys: TlsKeys) => number,
  ): void {
    new Gauge({
      name,
      help,
      aggregator,
      registers: [registry],
      collect() {
        // Without TLS there is no figure, and not one of 0.
        if (keys === null) this.remove()
        else this.set(read(keys))
      },
    })
  }
}

import type { SpanExporter } from '../registry/lib/trace/exporter.ts'
import { CLIENT, SERVER } from '../registry/lib/trace/span.ts'
import { phasesOf } from './access-log.ts'
import type { Exchange } from './exchange.ts'

/**
 * Hands over the spans of an exchange that has ended and whose trace is kept: one of the request that was served, and
 * within it one of the request that a replica got. By the semantic conventions for HTTP, without query, user or header.
 *
 * @param addressOf the client's address
 */
export function recordSpans(
  exporter: Pick<SpanExporter, 'add'>,
  exchange: Exchange,
  addressOf: (exchange: Exchange) => string,
  tookMs: number,
): void {
  const { method, path, status, startedAt, tenant, errorCode, traceId } = exchange
  const endedAt = startedAt + tookMs
  const common = { traceId, flags: exchange.traceFlags, tracestate: exchange.head.tracestate }
  const route = exchange.route?.name
  const phases = phasesOf(exchange, tookMs)
  exporter.add({
    ...common,
    spanId: exchange.spanId,
    parentSpanId: exchange.parentSpanId,
    kind: SERVER,
    name: route === undefined ? method : `${method} ${route}`,
    startedAt,
    endedAt,
    isError: status >= 500,
    attributes: [
      ...['http.request.method', method, 'url.path', path, 'http.route', route],
      ...['url.scheme', exchange.client.isTls ? 'https' : 'http'],
      ...['http.response.status_code', status === 0 ? undefined : status],
      ...['client.address', addressOf(exchange), 'server.address', hostOf(exchange.head.host)],
      ...['error.type', errorCode ?? errorTypeOf(status, 500)],
      ...['doorman.request_id', exchange.requestId],
      ...['doorman.tenant.id', tenant?.id, 'doorman.tenant.key', tenant?.key],
      ...Object.entries(phases).flatMap(([name, ms]) => [`doorman.${name}`, ms]),
    ],
  })
  if (exchange.upstream === null || exchange.upstreamSpanId === '') return
  const { hostname, port, protocol, origin } = new URL(exchange.upstream)
  const isAnswered = exchange.upstreamHeadAt > 0
  exporter.add({
    ...common,
    spanId: exchange.upstreamSpanId,
    parentSpanId: exchange.spanId,
    kind: CLIENT,
    name: method,
    startedAt: exchange.sentAt || exchange.signedAt,
    endedAt,
    isError: !isAnswered || status >= 400,
    attributes: [
      ...['http.request.method', method, 'url.full', `${origin}${path}`],
      ...['server.address', hostname, 'server.port', Number(port) || standardPort(protocol)],
      ...['http.response.status_code', isAnswered ? status : undefined],
      ...['http.request.resend_count', exchange.attempts > 1 ? exchange.attempts - 1 : undefined],
      ...['error.type', isAnswered ? errorTypeOf(status, 400) : (errorCode ?? 'cancelled')],
    ],
  })
}

/** Where there is no code of ours the conventions want the status as text. */
function errorTypeOf(status: number, from: number): string | undefined {
  return status >= from ? String(status) : undefined
}

function hostOf(host: string | null): string | undefined {
  return host?.replace(/:\d+$/, '')
}

function standardPort(protocol: string): number {
  return protocol === 'https:' ? 443 : 80
}

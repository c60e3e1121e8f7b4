import type { Attributes, Span } from './span.ts'

/** Beyond it a value is cut: a path may have 16 KiB. */
const VALUE_CHARS_MAX = 1024
const STATUS_ERROR = 2

/**
 * An ExportTraceServiceRequest of OTLP 1 in JSON: ids in hex, enumerations and times as numbers, 64 bits as text.
 *
 * @param nowMs `Date.now()` and `atMs` `performance.now()` at one moment: what the spans' clock reads as the time of day
 */
export function encodeSpans(
  resource: Attributes,
  spans: readonly Span[],
  nowMs: number,
  atMs: number,
): string {
  const offsetMs = nowMs - atMs
  const scope = { name: 'doorman' }
  const encoded = spans.map(span => encodeSpan(span, offsetMs))
  return JSON.stringify({
    resourceSpans: [
      {
        resource: { attributes: encodeAttributes(resource) },
        scopeSpans: [{ scope, spans: encoded }],
      },
    ],
  })
}

function encodeSpan(span: Span, offsetMs: number) {
  const { traceId, spanId, parentSpanId, tracestate, flags, name, kind } = span
  return {
    traceId,
    spanId,
    ...(parentSpanId !== '' && { parentSpanId }),
    ...(tracestate !== null && { traceState: tracestate }),
    flags,
    name,
    kind,
    startTimeUnixNano: nanos(span.startedAt + offsetMs),
    endTimeUnixNano: nanos(Math.max(span.startedAt, span.endedAt) + offsetMs),
    attributes: encodeAttributes(span.attributes),
    ...(span.isError && { status: { code: STATUS_ERROR } }),
  }
}

/** In microseconds, the most that a double holds of today's time. */
function nanos(ms: number): string {
  return `${Math.round(ms * 1000)}000`
}

function encodeAttributes(attributes: Attributes) {
  const encoded: { key: string; value: object }[] = []
  for (let i = 0; i + 1 < attributes.length; i += 2) {
    const value = attributes[i + 1]
    if (value === null || value === undefined) continue
    encoded.push({ key: String(attributes[i]), value: encodeValue(value) })
  }
  return encoded
}

function encodeValue(value: string | number | boolean): object {
  if (typeof value === 'string') return { stringValue: value.slice(0, VALUE_CHARS_MAX) }
  if (typeof value === 'boolean') return { boolValue: value }
  return Number.isSafeInteger(value) ? { intValue: String(value) } : { doubleValue: value }
}
